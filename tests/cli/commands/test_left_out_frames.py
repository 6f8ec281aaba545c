"""Data with some bad parts: every command goes on with the good ones and names the others."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from mvsplat.__main__ import main
from mvsplat.data import ChunkScenes
from mvsplat.reconstruction.inputs import open_input


@pytest.fixture
def door(tmp_path):
    """Eight frames along a line; 0.JPG is named 0.jpg, 2 has no pose, 3 no picture."""
    root = tmp_path / "door"
    (root / "images").mkdir(parents=True)
    frames = []
    for number in range(8):
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[0, 3] = 0.1 * number
        picture = Image.effect_noise((40, 30), 60).convert("RGB")
        picture.save(root / f"images/{number}.{'JPG' if number == 0 else 'jpg'}", "JPEG")
        frames.append({"file_path": f"images/{number}.jpg", "transform_matrix": matrix.tolist()})
    frames[2]["transform_matrix"][1][1] = math.nan
    (root / "images/3.jpg").unlink()
    content = {"fl_x": 40, "w": 40, "h": 30, "k4": 0.001, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(content))
    return root


def keep(root, count: int) -> None:
    """Damage all but so many of the good frames' cameras."""
    path = root / "transforms.json"
    content = json.loads(path.read_text())
    good = [frame for number, frame in enumerate(content["frames"]) if number not in (2, 3)]
    for frame in good[count:]:
        frame["transform_matrix"] = None
    path.write_text(json.dumps(content))


def check_told(text: str) -> None:
    assert "left out 2 of 8 frames: " in text
    assert "images/2.jpg: transforms.json: transform_matrix has a number that is not" in text
    assert "1 pictures are missing: images/3.jpg" in text
    assert "'images/0.jpg' is taken from" in text
    assert "k4 of a perspective camera is taken as" in text


def test_convert(door, tmp_path, capsys, caplog):
    (door / "images/5.jpg").write_bytes(b"")
    arguments = ["--workers", "0", "--near", "1", "--far", "9"]
    assert main(["convert", str(door), "--output", str(tmp_path / "out"), *arguments]) == 0
    check_told(caplog.text)
    assert len(ChunkScenes(str(tmp_path / "out")).scene("test", "door")) == 5
    (scene,) = json.loads((tmp_path / "out/conversion.json").read_text())["converted"]
    left_out = scene["left_out_frames"]
    assert sorted(sum(left_out.values(), [])) == ["images/2.jpg", "images/3.jpg", "images/5.jpg"]
    assert any("not finite" in reason for reason in left_out)
    out = capsys.readouterr().out
    assert "left out 3 frames: " in out and "door: images/5.jpg" in out


def test_convert_with_too_little_left_lists_what_was_left_out(door, tmp_path, capsys):
    keep(door, 1)
    assert main(["convert", str(door), "--output", str(tmp_path / "o"), "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert "fewer than 2 usable frames" in error and "transform_matrix is missing" in error
    assert "images/2.jpg" in error and "images/3.jpg" in error


def test_index(door, tmp_path, caplog, capsys):
    (door / "images/0.JPG").write_bytes(b"no picture")  # the first that is looked at
    target = tmp_path / "index.json"
    arguments = ["--workers", "0", "--rows", "0", "--near", "1", "--far", "9"]
    assert main(["index", str(door), "--output", str(target), *arguments]) == 0
    check_told(caplog.text)
    assert any(json.loads(target.read_text()).values())


def test_reconstruct(door, tmp_path, caplog):
    found = open_input(door, tmp_path)
    check_told(caplog.text)
    assert len(found.names) == 6 and set(found.dropped) == {"images/2.jpg", "images/3.jpg"}
    assert "not finite" in found.dropped["images/2.jpg"]
    assert len(found.notes) == 2  # they are in the report


def test_reconstruct_with_too_little_left_lists_what_was_left_out(door, tmp_path):
    keep(door, 1)
    with pytest.raises(ValueError, match="at least two are needed; left out: ") as error:
        open_input(door, tmp_path)
    assert all(f"images/{number}.jpg" in str(error.value) for number in (2, 3))
