"""RealEstate10K's camera files with extracted frames."""

import re

import numpy as np
import pytest
import torch
from captures import check_poses, pose, re10k_line, write_picture, write_re10k

from mvsplat.data import RealEstate10KScenes
from mvsplat.data.readers.realestate10k import read_cameras

POSES = [pose(seed) for seed in range(3)]


def test_clips_with_their_frames(tmp_path):
    write_re10k(tmp_path, "train", "00ab", POSES)
    write_re10k(tmp_path, "test", "ff01", POSES[:2])
    source = RealEstate10KScenes(str(tmp_path))
    assert source.keys("train") == ["00ab"] and source.keys("test") == ["ff01"]
    scene = source.scene("train", "00ab")
    check_poses(scene, POSES)
    expected = torch.tensor([[0.9, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])
    torch.testing.assert_close(scene.intrinsics, expected.repeat(3, 1, 1))
    assert scene.frame_names == ["1000000", "1033366", "1066732"]
    assert [scene.image(frame).getpixel((0, 0))[0] for frame in range(3)] == [0, 1, 2]


def test_frames_elsewhere_and_missing_ones(tmp_path):
    write_re10k(tmp_path / "RealEstate10K", "test", "a", POSES)
    (tmp_path / "RealEstate10K/frames").rename(tmp_path / "pictures")
    (tmp_path / "pictures/test/a/1033366.png").unlink()
    source = RealEstate10KScenes(str(tmp_path), str(tmp_path / "pictures"))
    scene = source.scene("test", "a")
    assert len(scene) == 2 and list(scene.left_out.values()) == [["1033366"]]
    assert source.keys("train") == []
    without = RealEstate10KScenes(str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.txt: none of its 3 frames is in .*/a"):
        without.scene("test", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", r"3 numbers, expected 19"),
        (re10k_line(5, np.eye(4)).replace("5 ", "../x ", 1), "'../x' is no time stamp"),
        (re10k_line(1_000_000, np.eye(4)), "the time stamp 1000000 is there twice"),
        (re10k_line(5, np.eye(4), (0, 1, 0.5, 0.5)), "focal length that is not positive"),
        (re10k_line(5, np.eye(4), (float("nan"), 1, 0.5, 0.5)), "number that is not finite"),
        (re10k_line(5, np.diag([2.0, 1, 1, 1])), "is no rotation"),
        (re10k_line(5, np.eye(4)).replace("1.6", "x"), "could not convert"),
    ],
)
def test_damage_is_named(tmp_path, line, message):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(["https://x", re10k_line(1_000_000, POSES[0]), line, ""]))
    cameras, left_out = read_cameras(path)
    assert [stamp for stamp, _, _ in cameras] == ["1000000"]
    ((reason, names),) = left_out.items()
    assert names == [line.split()[0]] and re.search(
        rf"a\.txt, line 3: (its camera .*)?{message}", reason
    )
    path.write_text("https://x\n")
    assert read_cameras(path) == ([], {})


def test_a_clip_goes_on_without_its_bad_lines(tmp_path, caplog):
    write_re10k(tmp_path, "test", "a", POSES)
    path = tmp_path / "test/a.txt"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], lines[2].replace(" 0.9 ", " -nan(ind) "), *lines[3:]]))
    scene = RealEstate10KScenes(str(tmp_path)).scene("test", "a")
    assert scene.frame_names == ["1000000", "1066732"]
    assert "a: left out 1 of 3 frames: 1033366: a.txt, line 3: " in caplog.text


@pytest.mark.parametrize("shift", [-16_000, -7, 1, 16_000])
def test_time_stamps_differ_by_less_than_half_a_frame(tmp_path, shift, caplog):
    write_re10k(tmp_path, "test", "a", POSES)
    folder = tmp_path / "frames/test/a"
    (folder / "1066732.png").rename(folder / f"{1066732 + shift}.jpg")
    (folder / "1033366.png").rename(folder / f"{1033366 + shift:012d}.png")
    scene = RealEstate10KScenes(str(tmp_path)).scene("test", "a")
    assert [scene.image(frame).getpixel((0, 0))[0] for frame in range(3)] == [0, 1, 2]
    assert "2 pictures are named after another time" in caplog.text and not scene.left_out


def test_time_stamps_of_other_frames_are_not_taken(tmp_path):
    write_re10k(tmp_path, "test", "a", POSES)
    folder = tmp_path / "frames/test/a"
    (folder / "1033366.png").rename(folder / "1050100.png")
    scene = RealEstate10KScenes(str(tmp_path)).scene("test", "a")
    assert scene.left_out == {"pictures are missing": ["1033366"]}
    # One picture serves one frame: the nearer one.
    (folder / "1066732.png").rename(folder / "1050040.png")
    (folder / "1050100.png").unlink()
    scene = RealEstate10KScenes(str(tmp_path)).scene("test", "a")
    assert scene.frame_names == ["1000000", "1033366"]
    assert scene.left_out == {"pictures are missing": ["1066732"]}
    write_picture(folder / "1033376.png", 5)
    write_picture(folder / "1033356.png", 6)
    with pytest.raises(ValueError, match="two pictures fit the time stamp 1033366"):
        RealEstate10KScenes(str(tmp_path)).scene("test", "a")
