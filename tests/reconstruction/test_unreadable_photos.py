"""Photographs with cameras, some of which cannot be read: the scene is made from the others."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import mvsplat
from mvsplat.data import Scene

PREDICTED = {"refine": "off", "refine_size": 128}
BOUNDS = {"near": 1.0, "far": 10.0, **PREDICTED}


@pytest.fixture
def folder(posed, tmp_path):
    """Five posed photographs, in a folder to damage."""
    content = json.loads((posed / "transforms.json").read_text())
    content["frames"] = content["frames"][:5]
    (tmp_path / "posed").mkdir()
    (tmp_path / "posed" / "transforms.json").write_text(json.dumps(content))
    for frame in content["frames"]:
        shutil.copy(posed / frame["file_path"], tmp_path / "posed")
    return tmp_path / "posed"


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


def empty(path):
    path.write_bytes(b"")


def turn(path):
    with Image.open(path) as picture:
        picture.rotate(90, expand=True).save(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "cannot be decoded"),
        (empty, "cannot be decoded"),
        (turn, "is 300 x 400 pixels, its camera"),
    ],
)
def test_the_others_make_the_scene(folder, checkpoint, damage, reason):
    damage(folder / "2.png")
    scene = mvsplat.reconstruct(folder, checkpoint, held_out=0, **BOUNDS)
    assert [frame.name for frame in scene.context] == ["0.png", "1.png", "3.png", "4.png"]
    assert scene.source.dropped.keys() == {"2.png"}
    assert scene.source.dropped["2.png"].startswith(reason)


def test_other_photos_are_chosen_for_context_and_comparison(folder, checkpoint):
    """Whichever is damaged, two others make the scene, and two are compared with."""
    whole = mvsplat.reconstruct(folder, checkpoint, max_photos=2, held_out=2, **BOUNDS)
    for bad in (whole.context[0].name, whole.left_out[0].name):
        kept = (folder / bad).read_bytes()
        truncate(folder / bad)
        scene = mvsplat.reconstruct(folder, checkpoint, max_photos=2, held_out=2, **BOUNDS)
        names = [frame.name for frame in [*scene.context, *scene.left_out]]
        assert len(scene.context) == 2 and len(names) == 4 and bad not in names
        assert scene.source.dropped.keys() == {bad} and len(scene.scores.final) == 2
        (folder / bad).write_bytes(kept)


def test_the_cameras_stay_with_their_photos(folder, room, checkpoint):
    photos = {}
    for number in range(5):
        small = Image.open(folder / f"{number}.png").resize((43, 32), Image.Resampling.BOX)
        photos[number] = np.asarray(small, dtype=float)[:, 6:38]
    truncate(folder / "1.png")
    scene = mvsplat.reconstruct(folder, checkpoint, held_out=0, **BOUNDS)
    for frame, number in zip(scene.context, (0, 2, 3, 4), strict=True):
        torch.testing.assert_close(frame.extrinsics, room.extrinsics[number], atol=1e-5, rtol=0)
        pixels = np.asarray(frame.crop((32, 32)).pixels.permute(1, 2, 0), dtype=float)
        assert number == min(photos, key=lambda n: np.abs(photos[n] - pixels).mean())


def test_the_depth_range_is_found_without_them(folder, checkpoint):
    for number in (0, 3):
        truncate(folder / f"{number}.png")
    scene = mvsplat.reconstruct(folder, checkpoint, max_photos=2, **PREDICTED)
    assert {"0.png", "3.png"} >= scene.source.dropped.keys()
    assert {frame.name for frame in scene.context} <= {"1.png", "2.png", "4.png"}


def test_the_command_names_them_on_the_console_and_in_the_report(
    folder, checkpoint, tmp_path, program, quick
):
    truncate(folder / "2.png")
    out = tmp_path / "out"
    options = ["--checkpoint", checkpoint, "--output", out, "--near", 1, "--far", 10]
    options += ["--refine", "off", "--refine_size", 128]
    code = program("reconstruct", folder, *options, "--photos", 5, config=False)
    assert code == 0, program.err
    assert "left out: 2.png: cannot be decoded" in program.out
    assert "photos is 5, but only 4 photos can be used: all are" in program.out
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "Photos that could not be used" in report and "2.png" in report
    assert not [*out.rglob("*2.png"), *out.rglob("*2.jpg")]
    assert len(list((out / "photos").iterdir())) == 4


def test_too_few_are_an_error_that_lists_the_others(folder, checkpoint, program, tmp_path):
    for number in range(4):
        (truncate, empty, turn)[number % 3](folder / f"{number}.png")
    options = ["--checkpoint", checkpoint, "--output", tmp_path / "out"]
    assert program("reconstruct", folder, *options, config=False) == 2
    assert "of 5 photos 1 can be used, at least two are needed; left out: " in program.err
    for number in range(4):
        assert f"{number}.png" in program.err.partition("left out: ")[2]
    assert not (tmp_path / "out").exists()


class Flawed(Scene):
    """A user's scene, most of whose pictures cannot be read; counts how often one is tried."""

    def __init__(self, room, bad):
        self.key, self.bad, self.room, self.tries = "flawed", bad, room, 0
        self.near, self.far = 1.0, 10.0
        self.extrinsics = room.extrinsics.repeat_interleave(20, 0)
        self.intrinsics = room.intrinsics.repeat_interleave(20, 0)
        self.extrinsics[:, 0, 3] += 0.01 * torch.arange(len(self.extrinsics))

    def image(self, index):
        self.tries += 1
        if index in self.bad:
            raise OSError("the disk says no")
        return self.room.image(index // 20)


def test_many_unreadable_ones_are_found_in_one_go(room, checkpoint):
    bad = set(range(160)) - {11, 70, 130}
    scene = Flawed(room, bad)
    result = mvsplat.reconstruct(scene, checkpoint, max_photos=2, held_out=0, **PREDICTED)
    assert {frame.name for frame in result.context} < {"11", "70", "130"}
    assert result.source.dropped == {str(number): "the disk says no" for number in bad}
    assert scene.tries < 200
