"""COLMAP models: files that COLMAP itself writes, and its conventions' traps."""

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
    ("file", "old", "new", "message"),
    [
        ("cameras", "PINHOLE", "EQUIRECT", r"cameras.txt, line 2: camera model 'EQUIRECT' is not"),
        ("cameras", "PINHOLE 40", "PINHOLE x", r"cameras.txt, line 2: 'x' is no whole number"),
        ("cameras", " 50 ", " -50 ", r"cameras.txt, line 2: the focal length is -1.25"),
        ("cameras", " 50 ", " nan ", r"cameras.txt, line 2: a parameter .* is not finite"),
        ("cameras", "1 PINHOLE", "2 PINHOLE", r"is of camera 1, which cameras.txt does not have"),
        ("images", "1 0.png", "1", r"images.txt, line 3: expected IMAGE_ID QW"),
        ("images", "1 0.png", "1 ../../etc/passwd", r"'../../etc/passwd' leaves the folder"),
        ("images", "1 0.png", "1 /etc/passwd", r"'/etc/passwd' leaves the folder"),
        ("images", "1 1.png", "1 0.png", r"the picture '0.png' is there twice"),
    ],
)
def test_damage_is_named(capture, file, old, new, message):
    path = capture / f"sparse/0/{file}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        ColmapScenes(str(capture)).scene("test", "door")


@pytest.mark.parametrize("numbers", ["0 0 0 0 1 2 3", "nan 0 0 0 1 2 3", "1 0 0 0 inf 2 3"])
def test_impossible_poses_are_named(capture, numbers):
    (capture / "sparse/0/images.txt").write_text(f"1 {numbers} 1 0.png\n\n")
    with pytest.raises(ValueError, match=r"images.txt, line 1, image '0.png': (its quat|a number)"):
        ColmapScenes(str(capture)).scene("test", "door")


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
        path.write_bytes(whole)


def test_links_out_of_the_folder_are_not_followed(capture, tmp_path):
    write_picture(tmp_path / "secret.png", 200)
    (capture / "images/1.png").unlink()
    (capture / "images/1.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="'1.png' is a symbolic link out of the folder"):
        ColmapScenes(str(capture)).scene("test", "door")
    scene = ColmapScenes(str(capture), follow_links=True).scene("test", "door")
    assert scene.image(1).getpixel((0, 0))[0] == 200


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        ColmapScenes(str(tmp_path / "no")).keys("test")
    with pytest.raises(FileNotFoundError, match="holds no COLMAP model"):
        ColmapScenes(str(tmp_path), key="x").scene("test", "x")
    write_colmap_text(tmp_path / "sparse", POSES)
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        ColmapScenes(str(tmp_path), key="x").scene("test", "x")
