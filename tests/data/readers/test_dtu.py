"""DTU as published for multi-view stereo, in both layouts."""

import re

import numpy as np
import pytest
import torch
from captures import check_poses, dtu_camera, pose, write_picture

from mvsplat.data import DTUScenes
from mvsplat.data.readers.dtu import TEST_SCANS, read_camera

POSES = [pose(seed) for seed in range(3)]
SCALED = [np.block([[p[:3, :3], p[:3, 3:] / 200], [0, 0, 0, 1]]) for p in POSES]


def write_scan(root, name, poses=POSES, scale=1.0, size=(160, 120)):
    for number, matrix in enumerate(poses):
        write_picture(root / name / f"images/{number:08d}.jpg", number * 40, size)
        path = root / name / f"cams/{number:08d}_cam.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dtu_camera(matrix, scale))


def test_scans_with_their_cameras(tmp_path):
    for name in ("scan1", "scan8", "scan114", "scan10"):
        write_scan(tmp_path, name, scale=0.1)
    source = DTUScenes(str(tmp_path))
    assert source.keys("train") == ["scan1", "scan10"]
    assert source.keys("test") == ["scan8", "scan114"]
    scene = source.scene("test", "scan8")
    check_poses(scene, SCALED)
    expected = torch.tensor([[2892.33 / 1600, 0, 0.5], [0, 2883.18 / 1200, 0.5], [0, 0, 1]])
    torch.testing.assert_close(scene.intrinsics[0], expected)
    # The published evaluation's bounds.
    assert scene.near == pytest.approx(2.125) and scene.far == pytest.approx(4.525)
    assert scene.frame_names[1] == "00000001"


def test_one_scan_alone(tmp_path):
    write_scan(tmp_path, "scan21", scale=0.1)
    assert DTUScenes(str(tmp_path / "scan21")).keys("test") == ["scan21"]


def test_the_training_layout_with_cameras_of_a_quarter_of_the_size(tmp_path):
    for number, matrix in enumerate(POSES):
        write_picture(
            tmp_path / f"Rectified/scan1_train/rect_{number + 1:03d}_3_r5000.png",
            number,
            (640, 480),
        )
        write_picture(tmp_path / f"Rectified/scan1_train/rect_{number + 1:03d}_0_r5000.png", 99)
        path = tmp_path / f"Cameras/train/{number:08d}_cam.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dtu_camera(matrix, 0.1))
    scene = DTUScenes(str(tmp_path)).scene("train", "scan1")
    assert [scene.image(frame).getpixel((0, 0))[0] for frame in range(3)] == [0, 1, 2]
    assert scene.intrinsics[0, 0, 0] == pytest.approx(2892.33 / 1600)
    check_poses(scene, SCALED)


def test_the_test_split_is_pixelnerfs():
    assert len(TEST_SCANS) == 15 and len(set(TEST_SCANS)) == 15


def test_the_last_line_may_say_the_farthest_depth(tmp_path):
    path = tmp_path / "a_cam.txt"
    path.write_text(dtu_camera(np.eye(4)).replace("425.0 2.5", "425.0 2.5 100 700.0"))
    assert read_camera(path)[2] == (425.0, 700.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("extrinsic", "intrinsics", "is damaged"),
        ("425.0 2.5", "425.0", "is damaged"),
        ("425.0 2.5", "-1 2.5", "depths from -1 to 479"),
        ("425.0 2.5", "nan 2.5", "depths from nan"),
        ("1.0 0.0 0.0 0.0", "1.0 0.0 0.0", "is damaged"),
        ("1.0 0.0 0.0 0.0", "nan 0.0 0.0 0.0", "no rotation"),
        ("1.0 0.0 0.0 0.0", "0.0 0.0 0.0 0.0", "no rotation"),
        ("800.0", "-800.0", "principal point is -800"),
    ],
)
def test_damage_is_named(tmp_path, old, new, message):
    write_scan(tmp_path, "scan1", [np.eye(4), pose(1)], size=(1600, 1200))
    path = tmp_path / "scan1/cams/00000000_cam.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    scene = DTUScenes(str(tmp_path)).scene("train", "scan1")
    ((reason, names),) = scene.left_out.items()
    assert names == ["00000000"] and scene.frame_names == ["00000001"]
    assert re.search(rf"00000000_cam\.txt.*{message}", reason)
    (tmp_path / "scan1/images/00000001.jpg").unlink()
    with pytest.raises(ValueError, match=rf"no frame can be used.*00000000_cam\.txt.*{message}"):
        DTUScenes(str(tmp_path)).scene("train", "scan1")


def test_a_damaged_picture_is_left_out(tmp_path):
    write_scan(tmp_path, "scan1", scale=0.1)
    (tmp_path / "scan1/images/00000001.jpg").write_bytes(b"")
    scene = DTUScenes(str(tmp_path)).scene("train", "scan1")
    ((reason, names),) = scene.left_out.items()
    assert names == ["00000001"] and "00000001.jpg cannot be decoded" in reason


@pytest.mark.parametrize("form", ["images/{:08d}.JPG", "images/{:d}.png", "Images/{:08d}.Png"])
def test_pictures_under_names_of_another_form(tmp_path, form):
    write_scan(tmp_path, "scan1", scale=0.1)
    for number in range(3):
        (tmp_path / f"scan1/images/{number:08d}.jpg").unlink()
        write_picture(tmp_path / "scan1" / form.format(number), number * 40, (160, 120))
    scene = DTUScenes(str(tmp_path)).scene("train", "scan1")
    assert [scene.image(frame).getpixel((0, 0))[0] // 39 for frame in range(3)] == [0, 1, 2]


def test_missing_pictures_and_scans(tmp_path):
    write_scan(tmp_path, "scan1", scale=0.1)
    (tmp_path / "scan1/images/00000001.jpg").unlink()
    assert list(DTUScenes(str(tmp_path)).scene("train", "scan1").left_out.values()) == [
        ["00000001"]
    ]
    with pytest.raises(ValueError, match="no train scene 'scan2'"):
        DTUScenes(str(tmp_path)).scene("train", "scan2")
    with pytest.raises(FileNotFoundError, match="holds no DTU scans"):
        DTUScenes(str(tmp_path / "scan1/images")).keys("train")


def test_a_camera_with_skew_is_left_out_with_its_file(tmp_path):
    write_scan(tmp_path, "scan1", scale=0.1)
    path = tmp_path / "scan1/cams/00000001_cam.txt"
    path.write_text(path.read_text().replace("289.233 0.0", "289.233 3.0"))
    scene = DTUScenes(str(tmp_path)).scene("train", "scan1")
    (reason,) = scene.left_out
    assert "00000001_cam.txt: the skew is 3, expected 0" in reason
    assert scene.left_out[reason] == ["00000001"] and "00000001" not in scene.frame_names
