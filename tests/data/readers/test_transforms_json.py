"""transforms.json in the dialects of nerfstudio, instant-ngp and Blender."""

import json
import math
import re

import numpy as np
import pytest
import torch
from captures import INTRINSICS, check_poses, pose, write_picture, write_transforms
from PIL import Image

from mvsplat.data import TransformsScenes
from mvsplat.data.readers.distortion import Brown, Fisheye

POSES = [pose(seed) for seed in range(3)]


def read(folder, **options):
    return TransformsScenes(str(folder), key="k", **options).scene("test", "k")


def change(folder, edit):
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_shared_intrinsics_and_opengl_axes(tmp_path):
    scene = read(write_transforms(tmp_path, POSES))
    check_poses(scene, POSES)
    torch.testing.assert_close(scene.intrinsics, INTRINSICS.repeat(3, 1, 1))
    assert scene.image(2).getpixel((0, 0))[0] == 2 and scene.points is None


def test_opengl_cameras_look_along_minus_z(tmp_path):
    """A camera of the identity in OpenGL looks at (0, 0, -1), with up being y."""
    write_transforms(tmp_path, POSES[:1])
    change(tmp_path, lambda c: c["frames"][0].update(transform_matrix=np.eye(4).tolist()))
    world_to_camera = torch.linalg.inv(read(tmp_path).extrinsics[0])
    x, y, z, _ = (world_to_camera @ torch.tensor([0.1, 0.2, -1.0, 1.0])).tolist()
    assert z == pytest.approx(1) and x == pytest.approx(0.1) and y == pytest.approx(-0.2)


def test_intrinsics_of_each_frame(tmp_path):
    write_transforms(tmp_path, POSES)

    def edit(content):
        content.pop("fl_x"), content.pop("fl_y")
        for number, frame in enumerate(content["frames"]):
            frame |= {"fl_x": 40.0 + number, "fl_y": 30.0 + number}

    change(tmp_path, edit)
    scene = read(tmp_path)
    assert scene.intrinsics[:, 0, 0].tolist() == pytest.approx([1, 41 / 40, 42 / 40])
    assert scene.intrinsics[:, 1, 1].tolist() == pytest.approx([1, 31 / 30, 32 / 30])


def test_blender_angle_no_suffix_three_files_transparent(tmp_path):
    for part, matrix in zip(("train", "val", "test"), POSES, strict=True):
        frames = [{"file_path": f"./{part}/r_0", "transform_matrix": gl(matrix)}]
        content = {"camera_angle_x": 0.6911112070083618, "frames": frames}
        (tmp_path / f"transforms_{part}.json").write_text(json.dumps(content))
        (tmp_path / part).mkdir()
        Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(tmp_path / f"{part}/r_0.png")
    scene = read(tmp_path)
    assert len(scene) == 3
    focal = 0.5 / math.tan(0.6911112070083618 / 2)
    expected = torch.tensor([[focal, 0, 0.5], [0, 2 * focal, 0.5], [0, 0, 1]])
    torch.testing.assert_close(scene.intrinsics[0], expected)
    assert scene.image(0).getpixel((5, 5)) == (255, 255, 255)  # transparent is white
    assert scene.frame_names == ["test/r_0", "train/r_0", "val/r_0"]
    check_poses(scene, [POSES[2], POSES[0], POSES[1]])


def gl(matrix):
    return (matrix @ np.diag([1.0, -1, -1, 1])).tolist()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"k1": 0.0, "p1": 0}, None),
        ({"k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4}, Brown((0.1, 0.2, 0.0, 0.0), (), (0.3, 0.4))),
        ({"k1": 0.1, "k3": 0.3, "k4": 0.4}, Brown((0.1, 0.0, 0.3, 0.4))),
        (
            {"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.4},
            Fisheye(Brown((0.1, 0.0, 0.0, 0.4))),
        ),
        ({"is_fisheye": True, "k1": 0.1}, Fisheye(Brown((0.1, 0.0, 0.0, 0.0)))),
    ],
)
def test_distortion(tmp_path, fields, expected):
    scene = read(write_transforms(tmp_path, POSES, **fields))
    assert scene.photos[0].lens.distortion == expected


def test_distorted_pictures_come_with_the_cameras_of_undistorted_ones(tmp_path):
    barrel = read(write_transforms(tmp_path, POSES, k1=-0.3))
    assert barrel.intrinsics[0, 0, 0] < INTRINSICS[0, 0]  # its corners show more than a pinhole's
    assert barrel.image(0).size == (40, 30) and barrel.encoded(0) is None
    pincushion = read(write_transforms(tmp_path, POSES, k1=0.3))
    assert pincushion.intrinsics[0, 0, 0] > INTRINSICS[0, 0]


def test_missing_pictures_and_those_in_a_folder_of_smaller_ones(tmp_path):
    write_transforms(tmp_path, POSES)
    (tmp_path / "images/1.png").unlink()
    assert list(read(tmp_path).left_out.values()) == [["images/1.png"]]
    write_picture(tmp_path / "images_4/1.png", 1, (10, 8))
    scene = read(tmp_path)
    assert len(scene) == 3 and scene.image(1).size == (10, 8)


def test_sparse_points_of_nerfstudio(tmp_path):
    from plyfile import PlyData, PlyElement

    write_transforms(tmp_path, POSES, ply_file_path="sparse_pc.ply")
    assert read(tmp_path).points is None
    table = np.array(
        [(1, 2, 3, 255), (4, 5, 6, 0)], [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1")]
    )
    PlyData([PlyElement.describe(table, "vertex")], text=True).write(
        str(tmp_path / "sparse_pc.ply")
    )
    torch.testing.assert_close(read(tmp_path).points, torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    for name in ("/home/someone/cap/sparse_pc.ply", "../x/sparse_pc.ply", "C:\\cap\\sparse_pc.ply"):
        change(tmp_path, lambda c, name=name: c.update(ply_file_path=name))
        assert len(read(tmp_path).points) == 2


@pytest.mark.parametrize("name", ["", "/home/x/no.ply", "..", "no.ply", 7, "images", "a\0b"])
def test_points_that_are_not_there_are_said(tmp_path, name, caplog):
    scene = read(write_transforms(tmp_path, POSES, ply_file_path=name))
    assert len(scene) == 3 and scene.points is None
    assert f"ply_file_path of transforms.json is {str(name)!r}" in caplog.text


def test_damaged_points_are_left_out(tmp_path, caplog):
    (tmp_path / "sparse_pc.ply").write_bytes(b"ply\nformat")
    scene = read(write_transforms(tmp_path, POSES, ply_file_path="sparse_pc.ply"))
    assert scene.points is None and len(scene) == 3
    assert "sparse_pc.ply is damaged" in caplog.text


def test_a_file_is_a_scene_too(tmp_path):
    write_transforms(tmp_path / "fox", POSES)
    source = TransformsScenes(str(tmp_path / "fox/transforms.json"), split="train")
    assert source.keys("train") == ["fox"] and source.keys("test") == []
    assert len(source.scene("train", "fox")) == 3


def frame(**fields):
    return lambda content: content["frames"][1].update(fields)


BAD_MATRIX = np.eye(4).tolist()
BAD_MATRIX[0][0] = 2.0


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (frame(file_path=None), "frame 1: transforms.json: it has no file_path"),
        (frame(file_path=7), "frame 1: transforms.json: it has no file_path"),
        (lambda c: c["frames"].__setitem__(1, []), "frame 1: transforms.json: it has no file_path"),
        (lambda c: c["frames"].__setitem__(1, None), "frame 1: transforms.json: it has no file_p"),
        (frame(file_path=""), "pictures have no name of a file"),
        (frame(file_path=".."), "pictures have no name of a file"),
        (frame(file_path="images/\0.png"), "pictures have no name of a file"),
        (frame(file_path="../../etc/passwd"), "pictures are missing: ../../etc/passwd"),
        (frame(file_path="/etc/passwd"), "pictures are missing: /etc/passwd"),
        (frame(file_path="C:\\secret.png"), "pictures are missing: C:/secret.png"),
        (frame(file_path="images/0.png"), "the picture is there twice"),
        (frame(transform_matrix=None), "transform_matrix is missing"),
        (lambda c: c["frames"][1].pop("transform_matrix"), "transform_matrix is missing"),
        (frame(transform_matrix=[[1, 2], [3]]), "transform_matrix is missing or not of 4 rows"),
        (frame(transform_matrix=[["a"] * 4] * 4), "4 numbers: .*'a'"),
        (frame(transform_matrix=[[None] * 4] * 4), "4 numbers: .*None"),
        (frame(transform_matrix=[[math.nan] * 4] * 4), "not finite: .*nan"),
        (frame(transform_matrix=[[math.inf] * 4] * 4), "not finite: .*inf"),
        (frame(transform_matrix=BAD_MATRIX), "is no rotation"),
        (frame(transform_matrix=np.zeros((4, 4)).tolist()), "is no rotation"),
        (frame(transform_matrix=np.diag([1, 1, -1, 1]).tolist()), "is no rotation"),
        (frame(fl_x=0), "fl_x is 0"),
        (frame(fl_x=-3), "fl_x is -3"),
        (frame(fl_x="50"), "fl_x is '50', expected a number"),
        (frame(fl_x=math.inf), "fl_x is not finite"),
        (frame(cy=math.nan), "cy is not finite"),
        (frame(w=0), "w and h are 0 and 30"),
        (frame(w=-40), "w and h are -40 and 30"),
        (frame(w=10**400), "w is not finite"),
        (frame(camera_model="EQUIRECTANGULAR"), "camera_model is 'EQUIRECTANGULAR', expected"),
        (frame(camera_model=5), "camera_model is '5', expected"),
        (frame(k1=1e9), "distortion makes no sense"),
    ],
)
def test_one_bad_frame_is_left_out_with_its_name_and_value(tmp_path, edit, why, caplog):
    change(write_transforms(tmp_path, POSES), edit)
    scene = read(tmp_path)
    assert scene.frame_names == ["images/0.png", "images/2.png"]
    check_poses(scene, [POSES[0], POSES[2]])
    assert sum(map(len, scene.left_out.values())) == 1
    (line,) = [text for text in caplog.messages if "left out" in text]
    assert re.search(f"k: left out 1 of 3 frames: .*{why}", line)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("frames"), "frames is missing or empty"),
        (lambda c: c.update(frames=[]), "frames is missing or empty"),
        (lambda c: c.update(frames={"a": 1}), "frames is missing or empty"),
        (lambda c: c.update(fl_x=0), r"no frame can be used \(3 .images/0.png.*fl_x is 0"),
        (lambda c: [c.pop("fl_x"), c.pop("fl_y")], "it has neither fl_x nor camera_angle"),
    ],
)
def test_without_a_frame_the_file_is_refused(tmp_path, edit, message):
    change(write_transforms(tmp_path, POSES), edit)
    with pytest.raises(ValueError, match=rf"transforms\.json.*{message}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "word", ["-nan(ind)", "nan", "NaN", "-inf", "1.#QNAN", "1.#IND", "Infinity"]
)
def test_numbers_that_are_none_in_c_do_not_spoil_the_json(tmp_path, word):
    write_transforms(tmp_path, POSES)
    change(tmp_path, lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(3, 12345.5))
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text().replace("12345.5", word))
    scene = read(tmp_path)
    ((reason, names),) = scene.left_out.items()
    assert names == ["images/1.png"] and "not finite" in reason


def test_a_picture_without_a_size_is_left_out(tmp_path):
    write_transforms(tmp_path, POSES)
    change(tmp_path, lambda c: [c.pop("w"), c.pop("h")])
    for content in (b"", b"hello", b"\xff\xd8\xff"):
        (tmp_path / "images/1.png").write_bytes(content)
        scene = read(tmp_path)
        ((reason, names),) = scene.left_out.items()
        assert names == ["images/1.png"] and "1.png cannot be decoded" in reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no valid JSON"),
        ("[" * 100_000, "nested too deeply|no valid JSON"),
        ("[1]", "holds a list, expected an object"),
        ('{"frames": [], "frames": []}', "the key 'frames' is there twice"),
        ('{"w": ' + "9" * 5000 + "}", "no valid JSON"),
        (b"\xff\xfe{}", "no text file"),
    ],
)
def test_files_that_are_no_json(tmp_path, text, message):
    (tmp_path / "transforms.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"transforms\.json .*({message})"):
        read(tmp_path)


def test_long_and_foreign_names(tmp_path):
    write_transforms(tmp_path, POSES)
    change(tmp_path, frame(file_path="images/" + "x" * 5000))
    assert len(read(tmp_path)) == 2
    write_picture(tmp_path / "images/写真 é.png", 77)
    change(tmp_path, frame(file_path="images\\写真 é.png"))
    assert read(tmp_path).image(2).getpixel((0, 0))[0] == 77
