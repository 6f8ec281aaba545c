"""COLMAP models: files that COLMAP itself writes, and its conventions' traps."""

import math
import re
import struct

import numpy as np
import pycolmap
import pytest
import torch
from captures import INTRINSICS, check_poses, pose, write_colmap_text, write_picture
from PIL import Image

from mvsplat.data import ColmapScenes
from mvsplat.data.readers.colmap_model import ColmapModel

POSES = [pose(seed) for seed in range(4)]


@pytest.fixture
def capture(tmp_path):
    write_colmap_text(tmp_path / "door/sparse/0", POSES)
    for number in range(4):
        write_picture(tmp_path / f"door/images/{number}.png", number)
    return tmp_path / "door"


def reconstruction() -> pycolmap.Reconstruction:
    """A model with two lenses and points, made by COLMAP."""
    model = pycolmap.Reconstruction()
    lenses = [
        ("SIMPLE_PINHOLE", [50.0, 20.5, 15.25]),
        ("OPENCV", [50.0, 51.0, 20.5, 15.25] + [0.0] * 4),
    ]
    for number, (name, parameters) in enumerate(lenses, 1):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=number, model=name, width=40, height=30, params=parameters)
        )
    for number, matrix in enumerate(POSES, 1):
        world_to_camera = np.linalg.inv(matrix)[:3]
        image = pycolmap.Image(
            name=f"déjà vu {number}.png",
            keypoints=np.random.default_rng(number).uniform(0, 30, (number % 3, 2)),
            camera_id=1 + number % 2,
            image_id=number,
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(world_to_camera))
    for number in range(5):
        model.add_point3D(np.array([number, 0.5, -1.0]), pycolmap.Track())
    return model


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_what_colmap_writes_is_read(tmp_path, kind):
    model = reconstruction()
    getattr(model, f"write_{kind}")(str(tmp_path))

    read = ColmapModel(tmp_path)
    lenses, images = read.cameras(), read.images()

    assert read.is_binary == (kind == "binary") and read.image_count() == 4
    assert {image.name for image in images} == {f"déjà vu {number}.png" for number in range(1, 5)}
    rays = np.random.default_rng(0).uniform(-0.3, 0.3, (10, 2))
    for image in images:
        truth = next(t for t in model.images.values() if t.name == image.name)
        world_to_camera = truth.cam_from_world().matrix()
        np.testing.assert_allclose(
            np.linalg.inv(image.extrinsics.numpy())[:3], world_to_camera, atol=1e-12
        )
        # The lens projects where COLMAP does: no half pixel is lost on the way.
        expected = truth.camera.img_from_cam(np.c_[rays, np.ones(10)])
        found = lenses[image.camera].observe(torch.tensor(rays)).numpy() * [40, 30]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    points = read.points()
    expected = np.stack([point.xyz for _, point in sorted(model.points3D.items())])
    order = np.argsort(points[:, 0].numpy())
    np.testing.assert_allclose(points.numpy()[order], expected, atol=1e-6)


def test_a_scene_is_read(capture):
    source = ColmapScenes(str(capture))
    scene = source.scene("test", "door")
    assert source.keys("test") == ["door"] and source.keys("train") == []
    check_poses(scene, POSES)
    torch.testing.assert_close(scene.intrinsics, INTRINSICS.repeat(4, 1, 1))
    assert scene.frame_names == ["0.png", "1.png", "2.png", "3.png"]
    assert [scene.image(frame).getpixel((3, 3))[0] for frame in range(4)] == [0, 1, 2, 3]
    torch.testing.assert_close(scene.points, torch.tensor([[0.5, -1, 2], [1, 2, 3]]))
    assert scene.near is None and not scene.left_out


@pytest.mark.parametrize("part", ["sparse/0", "sparse"])
def test_the_models_folder_finds_its_pictures(capture, part):
    if part == "sparse":
        for file in (capture / "sparse/0").iterdir():
            file.rename(capture / "sparse" / file.name)
    assert ColmapScenes(str(capture / part)).scene("test", "door").image(2).size == (40, 30)


def test_frames_are_in_the_natural_order_of_their_names(tmp_path):
    names = ["b/frame10.png", "b/frame9.png", "a.png", "b/frame2 x.png"]
    write_colmap_text(tmp_path / "sparse", POSES, names=names)
    for number, name in enumerate(names):
        write_picture(tmp_path / "images" / name, number)
    scene = ColmapScenes(str(tmp_path), key="k").scene("test", "k")
    assert [scene.image(frame).getpixel((0, 0))[0] for frame in range(4)] == [2, 3, 1, 0]
    check_poses(scene, [POSES[i] for i in (2, 3, 1, 0)])


def test_missing_pictures_are_left_out_and_named(capture):
    (capture / "images/1.png").unlink()
    scene = ColmapScenes(str(capture)).scene("test", "door")
    assert len(scene) == 3 and list(scene.left_out.values()) == [["1.png"]]
    check_poses(scene, [POSES[i] for i in (0, 2, 3)])
    for number in (0, 2, 3):
        (capture / f"images/{number}.png").unlink()
    with pytest.raises(ValueError, match=r"no frame can be used \(4 pictures are missing"):
        ColmapScenes(str(capture)).scene("test", "door")


def test_smaller_pictures_serve_others_do_not(capture):
    for number in range(4):
        write_picture(capture / f"images_4/{number}.png", number, (10, 8))  # 7.5, rounded
    scene = ColmapScenes(str(capture), images="images_4").scene("test", "door")
    assert scene.image(1).size == (10, 8)
    torch.testing.assert_close(scene.intrinsics[0], INTRINSICS)
    write_picture(capture / "images/0.png", 0, (30, 40))
    with pytest.raises(
        ValueError, match=r"0.png is 30 x 40 pixels, its camera in .* is of 40 x 30"
    ):
        ColmapScenes(str(capture)).scene("test", "door").image(0)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_rotation_marks_never_turn_the_picture_against_its_camera(capture, orientation, caplog):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.new("RGB", (40, 30))
    stored.putpixel((39, 0), (255, 255, 255))
    for suffix, size in ((".png", (40, 30)),):
        stored.save(capture / f"images/0{suffix}", exif=exif)
    scene = ColmapScenes(str(capture)).scene("test", "door")
    assert scene.image(0).getpixel((39, 0)) == (255, 255, 255)  # as stored: COLMAP sees that
    assert ("marked as rotated" in caplog.text) == (orientation != 1)


def test_a_camera_of_the_turned_size_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    stored = Image.new("RGB", (40, 30))
    stored.putpixel((0, 0), (255, 255, 255))
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images/0.png", exif=exif)
    write_colmap_text(tmp_path / "sparse", POSES[:1], "1 PINHOLE 30 40 50 51 15 20\n")
    picture = ColmapScenes(str(tmp_path), key="k").scene("test", "k").image(0)
    assert picture.size == (30, 40) and picture.getpixel((29, 0)) == (255, 255, 255)


def test_of_several_models_the_largest_counts(capture, caplog):
    write_colmap_text(capture / "sparse/1", [*POSES, pose(9)])
    write_picture(capture / "images/4.png", 4)
    assert len(ColmapScenes(str(capture)).scene("test", "door")) == 5
    assert "2 COLMAP models" in caplog.text


@pytest.mark.parametrize(
    ("file", "old", "new", "lost", "why"),
    [
        (
            "cameras",
            "2 PINHOLE",
            "2 EQUIRECT",
            "23",
            "cameras.txt, line 3: camera model 'EQUIRECT'",
        ),
        ("cameras", "2 PINHOLE 40", "2 PINHOLE x", "23", "cameras.txt, line 3: 'x' is no whole"),
        ("cameras", "2 PINHOLE 40", "2 PINHOLE 0", "23", "cameras.txt, line 3: the picture's size"),
        ("cameras", "30 60 ", "30 -60 ", "23", "cameras.txt, line 3: the focal length is -1.5"),
        ("cameras", "30 60 ", "30 0 ", "23", "cameras.txt, line 3: the focal length is 0"),
        (
            "cameras",
            "30 60 ",
            "30 nan ",
            "23",
            "cameras.txt, line 3: a parameter .* not finite: nan",
        ),
        (
            "cameras",
            "30 60 ",
            "30 inf ",
            "23",
            "cameras.txt, line 3: a parameter .* not finite: inf",
        ),
        ("cameras", "30 60 ", "30 1.#IND ", "23", r"cameras.txt, line 3: '1\.#IND' is no number"),
        ("cameras", "30 60 ", "30 ", "23", "cameras.txt, line 3: camera model PINHOLE has 4 par"),
        ("cameras", "2 PINHOLE 40 30", "2 PINHOLE 40", "23", "cameras.txt, line 3: "),
        ("cameras", "2 PINHOLE", "two PINHOLE", "23", "of camera 2, which .* lacks .*'two'"),
        (
            "cameras",
            "2 PINHOLE",
            "7 PINHOLE",
            "23",
            "images.txt: it is of camera 2, which cameras.txt",
        ),
        ("cameras", "2 PINHOLE 40", "1 PINHOLE 41", "0123", "camera 1 is there twice"),
        ("images", "1 1.png", "1.png", "1", "images.txt, line 5: expected IMAGE_ID QW"),
        ("images", "1 1.png", "", "line 5", "images.txt, line 5: expected IMAGE_ID QW"),
        ("images", "1 1.png", "x 1.png", "1", "images.txt, line 5: 'x' is no whole number"),
        ("images", "1 1.png", "1 ../../etc/passwd", "../../etc/passwd", "pictures are missing"),
        ("images", "1 1.png", "1 /etc/passwd", "/etc/passwd", "pictures are missing"),
        ("images", "1 1.png", "1 0.png", "0", "the picture is there twice; its first camera"),
    ],
)
def test_what_is_damaged_is_left_out_and_named(capture, file, old, new, lost, why):
    """Pictures 0 and 1 are of camera 1, the others of camera 2."""
    write_colmap_text(
        capture / "sparse/0",
        POSES,
        "1 PINHOLE 40 30 50 51 20.5 15.25\n2 PINHOLE 40 30 60 51 20.5 15.25\n",
    )
    path = capture / "sparse/0/images.txt"
    path.write_text(
        path.read_text().replace(" 1 2.png", " 2 2.png").replace(" 1 3.png", " 2 3.png")
    )
    path = capture / f"sparse/0/{file}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    names = [f"{digit}.png" for digit in lost] if lost.isdecimal() else [lost]
    if len(names) == 4:
        with pytest.raises(ValueError, match=f"no frame can be used.*{why}"):
            ColmapScenes(str(capture)).scene("test", "door")
        return
    scene = ColmapScenes(str(capture)).scene("test", "door")
    (reason,) = scene.left_out
    assert re.search(why, reason)
    found = [name.removeprefix("images.txt, ") for name in scene.left_out[reason]]
    assert found == names
    left = {"0.png", "1.png", "2.png", "3.png"} - {*(names if lost != "0" else ["1.png"])}
    left -= {"1.png"} if not lost.isdecimal() else set()
    assert set(scene.frame_names) == left
    check_poses(scene, [POSES[int(name[0])] for name in scene.frame_names])


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("word", ["nan", "-nan(ind)", "inf", "1.#IND", "x", "1e999"])
def test_impossible_poses_are_left_out(capture, position, word):
    path = capture / "sparse/0/images.txt"
    lines = path.read_text().split("\n")
    words = lines[4].split()
    words[1 + position] = word
    lines[4] = " ".join(words)
    path.write_text("\n".join(lines))
    scene = ColmapScenes(str(capture)).scene("test", "door")
    ((reason, names),) = scene.left_out.items()
    assert names == ["1.png"] and "images.txt, line 5: " in reason and repr(word) in reason
    check_poses(scene, [POSES[number] for number in (0, 2, 3)])


def test_a_zero_quaternion_is_left_out(capture):
    path = capture / "sparse/0/images.txt"
    path.write_text("1 0 0 0 0 1 2 3 1 0.png\n\n2 1 0 0 0 1 2 3 1 1.png\n\n")
    scene = ColmapScenes(str(capture)).scene("test", "door")
    assert scene.left_out == {"images.txt, line 1: its quaternion is zero": ["0.png"]}


POINTS = "1.5 2.5 -1 3.5 4.5 7"


@pytest.mark.parametrize(
    "second",
    [
        "",
        POINTS,
        "# a comment\n",
        "# a comment\n" + POINTS,
        None,  # stripped
        "# a comment",  # stripped, and commented
        "\n",  # doubled
        "1.5 2.5 -1 3.5",  # cut short
        "1.5 2.5 -1 3.5 4.",
        "1.5 2.5 -1 -nan(ind) nan 7",
        "   \t ",
        " ".join(["101.5 202.25 -1"] * 3),
        " ".join(["101 202 1"] * 4),
        " ".join(["101.5 202.25 3"] * 2000),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("tabs", [False, True])
def test_images_txt_in_any_state_of_its_second_lines(capture, second, ending, tabs):
    path = capture / "sparse/0/images.txt"
    lines = [line for line in path.read_text().split("\n") if line.endswith(".png")]
    lines = [line.replace(" ", "\t") for line in lines] if tabs else lines
    parts = [part for line in lines for part in (line, second) if part is not None]
    text = "\ufeff# header\n" + "\n".join(parts) + "\n\n\n"
    path.write_bytes(text.replace("\n", ending).encode())
    scene = ColmapScenes(str(capture)).scene("test", "door")
    assert not scene.left_out
    check_poses(scene, POSES)
    assert ColmapModel(capture / "sparse/0").image_count() == 4


def test_only_some_second_lines_are_stripped(capture):
    path = capture / "sparse/0/images.txt"
    lines = [line for line in path.read_text().split("\n") if line.endswith(".png")]
    for stripped in range(4):
        parts = [p for i, line in enumerate(lines) for p in (line, "") if p or i != stripped]
        path.write_text("\n".join(parts))
        check_poses(ColmapScenes(str(capture)).scene("test", "door"), POSES)


@pytest.mark.parametrize("names", [["1", "2", "3", "4"], ["a 1", "b 2 3", "4 c", "d  e.png"]])
@pytest.mark.parametrize("stripped", [False, True])
def test_names_that_look_like_numbers_or_have_spaces(tmp_path, names, stripped):
    write_colmap_text(tmp_path / "sparse", POSES, names=names)
    if stripped:
        path = tmp_path / "sparse/images.txt"
        lines = [line for line in path.read_text().split("\n") if line and "1.5 2.5" not in line]
        path.write_text("\n".join(lines))
    for number, name in enumerate(names):
        write_picture(tmp_path / "images" / name.removesuffix(".png"), number, format="PNG")
        (tmp_path / "images" / name.removesuffix(".png")).rename(tmp_path / "images" / name)
    scene = ColmapScenes(str(tmp_path), key="k").scene("test", "k")
    assert sorted(scene.frame_names) == sorted(names)


def test_bad_points_are_left_out_and_named(capture, caplog):
    path = capture / "sparse/0/points3D.txt"
    path.write_text(path.read_text() + "9 -nan(ind) 0 0 1 1 1 0\n10 1 nan 0\n11 1\n12 1 1 1\n")
    points = ColmapScenes(str(capture)).scene("test", "door").points
    torch.testing.assert_close(points, torch.tensor([[0.5, -1, 2], [1, 2, 3], [1, 1, 1]]))
    assert "left out 3 of 6 points: points3D.txt, line 4: '-nan(ind)' is no number" in caplog.text


def test_damaged_points_cost_no_scene(tmp_path, caplog):
    (tmp_path / "sparse").mkdir()
    reconstruction().write_binary(str(tmp_path / "sparse"))
    for number in range(1, 5):
        write_picture(tmp_path / f"images/déjà vu {number}.png", number)
    path = tmp_path / "sparse/points3D.bin"
    path.write_bytes(path.read_bytes()[:-3])
    scene = ColmapScenes(str(tmp_path), key="k").scene("test", "k")
    assert scene.points is None and len(scene) == 4
    assert "sparse points are left out" in caplog.text and "points3D.bin is damaged" in caplog.text


def test_bad_records_of_binary_files_are_left_out(tmp_path):
    (tmp_path / "sparse").mkdir()
    reconstruction().write_binary(str(tmp_path / "sparse"))
    for number in range(1, 5):
        write_picture(tmp_path / f"images/déjà vu {number}.png", number)
    path = tmp_path / "sparse/images.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:12] + struct.pack("<d", math.nan) + whole[20:])
    source = ColmapScenes(str(tmp_path), key="k")
    scene = source.scene("test", "k")
    ((reason, names),) = scene.left_out.items()
    assert len(scene) == 3 and len(names) == 1 and reason.startswith("images.bin, record 0: ")
    path.write_bytes(whole)
    path = tmp_path / "sparse/cameras.bin"
    path.write_bytes(path.read_bytes().replace(struct.pack("<ii", 2, 4), struct.pack("<ii", 2, 99)))
    scene = ColmapScenes(str(tmp_path), key="k").scene("test", "k")
    ((reason, names),) = scene.left_out.items()
    assert len(scene) == 2 and "'NUMBER 99' is not supported" in reason


def test_a_damaged_model_does_not_hide_a_whole_one(capture, caplog):
    write_colmap_text(capture / "sparse/1", POSES[:3])
    for folder in ("sparse/0", "sparse/2"):
        (capture / folder).mkdir(exist_ok=True)
        for name in ("cameras.bin", "images.bin"):
            (capture / folder / name).write_bytes(b"\x05" + bytes(11))
    scene = ColmapScenes(str(capture)).scene("test", "door")
    assert len(scene) == 4 and "a COLMAP model is left out" in caplog.text
    (capture / "sparse/0/images.txt").unlink()
    assert len(ColmapScenes(str(capture)).scene("test", "door")) == 3


def test_binary_files_are_checked_before_they_are_believed(tmp_path):
    reconstruction().write_binary(str(tmp_path))
    for name in ("cameras", "images", "points3D"):
        path = tmp_path / f"{name}.bin"
        whole = path.read_bytes()
        read = getattr(ColmapModel(tmp_path), name if name != "points3D" else "points")
        for content in (b"", whole[:20], whole[: len(whole) - 3], struct.pack("<Q", 10**15)):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"{name}\.bin is damaged"):
                read()
        if name != "points3D":
            path.write_bytes(whole[: len(whole) - 3])
            with pytest.raises(ValueError, match=r"in (camera 2 of 2|image 4 of 4)"):
                read()
        path.write_bytes(whole)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        ColmapScenes(str(tmp_path / "no")).keys("test")
    with pytest.raises(FileNotFoundError, match="holds no COLMAP model"):
        ColmapScenes(str(tmp_path), key="x").scene("test", "x")
    write_colmap_text(tmp_path / "sparse", POSES)
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        ColmapScenes(str(tmp_path), key="x").scene("test", "x")
