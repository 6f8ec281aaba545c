"""convert: what comes out, whatever goes in and whenever it is interrupted."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wall
from noise import noise
from PIL import Image
from room_films import film_rooms

from mvsplat.__main__ import main
from mvsplat.data import ChunkScenes, open_scenes
from mvsplat.data.chunks.chunk_scenes import ChunkScene, encode_depth, pack_cameras, write_chunks
from mvsplat.data.chunks.storage import load_chunk
from mvsplat.data.generated.recipe import Recipe


def write_capture(folder: Path, frames: int = 4, size=(40, 30), distortion: float = 0.0, **more):
    """A transforms.json with noisy JPEG pictures; the cameras walk along x."""
    (folder / "images").mkdir(parents=True)
    entries = []
    for number in range(frames):
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[0, 3] = 0.2 * number
        picture = noise(size, 60)
        picture.save(folder / f"images/{number}.jpg", quality=90)
        entries.append({"file_path": f"images/{number}.jpg", "transform_matrix": matrix.tolist()})
    content = {"fl_x": 40, "fl_y": 40, "w": size[0], "h": size[1], "k1": distortion}
    (folder / "transforms.json").write_text(json.dumps(content | more | {"frames": entries}))
    return folder


def write_captures(root: Path, count: int, **options) -> Path:
    for number in range(count):
        write_capture(root / f"scene{number}", **options)
    return root


def convert(*arguments, workers: int = 0) -> int:
    return main(["convert", *map(str, arguments), "--workers", str(workers)])


def content(folder: Path) -> dict:
    """Everything in a folder of chunks, to compare."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".torch":
            found[name] = [
                {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}
                | {"images": [image.numpy().tobytes() for image in scene["images"]]}
                for scene in load_chunk(path).values()
            ]
        elif path.is_file():
            found[name] = path.read_text()
    return found


def test_a_scene_arrives_as_it_was(tmp_path, capsys):
    source = write_capture(tmp_path / "door")
    assert convert(source, "--output", tmp_path / "out") == 0
    original = open_scenes(source).scene("test", "door")
    scene = ChunkScenes(str(tmp_path / "out")).scene("test", "door")
    torch.testing.assert_close(scene.extrinsics, original.extrinsics)
    torch.testing.assert_close(scene.intrinsics, original.intrinsics)
    assert scene.frame_names == original.frame_names
    # Pictures that need no change are copied bit by bit.
    assert scene.encoded(2) == (source / "images/2.jpg").read_bytes()
    assert 0 < scene.near < scene.far
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    assert report["scenes"] == 1 and report["frames"] == 4 and report["left_out"] == []
    assert report["converted"][0]["bounds_from"] == "cameras"
    out = capsys.readouterr().out
    assert "guessed from the cameras alone" in out and "report:" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"test", "conversion.json"}


def test_scenes_without_points_get_bounds_from_their_pictures(tmp_path, capsys):
    """Bounds that hold the room; no points, which would pass for structure from motion's."""
    recipe = Recipe(6, 48, 64, 0.9, (50.0, 65.0), 18.0, 14.0, 0)
    (full,) = film_rooms(recipe, "test", 1)
    room = ChunkScene(full, "the room")
    depth = np.stack([room.depth(frame) for frame in range(len(room))])
    write_chunks(
        tmp_path / "in/test", [{name: full[name] for name in ("key", "cameras", "images")}]
    )
    assert convert(tmp_path / "in", "--output", tmp_path / "out", "--workers", 0) == 0
    scene = ChunkScenes(str(tmp_path / "out")).scene("test", room.key)
    low, high = np.percentile(depth[depth > 0], [1, 99])
    assert low / 1.5 < scene.near < 1.5 * low and high < scene.far < 3 * high
    assert scene.points is None
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    assert report["converted"][0]["bounds_from"] == "pictures"
    assert "guessed" not in capsys.readouterr().out


def test_distorted_pictures_are_undistorted_and_large_ones_shrunk(tmp_path):
    source = write_capture(tmp_path / "door", size=(80, 60), distortion=-0.1)
    convert(source, "--output", tmp_path / "out", "--max_side", 40, "--near", 1, "--far", 50)
    scene = ChunkScenes(str(tmp_path / "out")).scene("test", "door")
    original = open_scenes(source).scene("test", "door")
    assert scene.image(0).size == (40, 30)
    torch.testing.assert_close(scene.intrinsics, original.intrinsics)  # normalised
    truth = np.asarray(original.image(0).resize((40, 30), Image.Resampling.LANCZOS), float)
    assert np.abs(np.asarray(scene.image(0), float) - truth).mean() < 4
    assert (scene.near, scene.far) == (1.0, 50.0)


def test_pictures_are_cropped_with_their_cameras(tmp_path):
    source = write_capture(tmp_path / "door")
    convert(source, "--output", tmp_path / "out", "--image_shape", "[15, 15]", "--near", "null",
            "--far", "null")  # fmt: skip
    scene = ChunkScenes(str(tmp_path / "out")).scene("test", "door")
    assert scene.image(0).size == (15, 15) and scene.near is None
    # 40 x 30 at half the size is 20 x 15, of which 15 x 15 stay.
    assert scene.intrinsics[0, 0, 0] == pytest.approx(20 / 15)
    assert scene.intrinsics[0, 1, 1] == pytest.approx(40 / 30)


def test_splits(tmp_path):
    root = write_captures(tmp_path / "in", 5)
    convert(root, "--output", tmp_path / "a", "--test_every", 2)
    source = ChunkScenes(str(tmp_path / "a"))
    assert source.keys("test") == ["scene0", "scene2", "scene4"]
    assert source.keys("train") == ["scene1", "scene3"]
    convert(root, "--output", tmp_path / "b", "--split", "train")
    assert len(ChunkScenes(str(tmp_path / "b")).keys("train")) == 5
    # Chunks keep their splits, and can be converted again.
    convert(tmp_path / "a", "--output", tmp_path / "c")
    assert (
        content(tmp_path / "c")["train/000000.torch"]
        == content(tmp_path / "a")["train/000000.torch"]
    )
    convert(tmp_path / "a", "--output", tmp_path / "d", "--split", "test")
    assert not (tmp_path / "d/train").exists()


def test_points_depth_and_names_survive_a_second_conversion(tmp_path):
    photo = torch.frombuffer(bytearray(jpeg()), dtype=torch.uint8)
    extrinsics = torch.eye(4).repeat(2, 1, 1)
    extrinsics[1, 0, 3] = 0.1
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    depth = 2 + np.arange(64.0).reshape(8, 8) / 64
    entry = {
        "key": "é/long " + "x" * 500,
        "timestamps": torch.tensor([33, 66]),
        "cameras": pack_cameras(extrinsics, intrinsics),
        "images": [photo, photo],
        "depths": [encode_depth(depth, 1.0)] * 2,
        "near": 1.0,
        "far": 10.0,
        "points": torch.rand(7, 3),
    }
    write_chunks(tmp_path / "in/train", [entry])
    convert(tmp_path / "in", "--output", tmp_path / "out")
    scene = ChunkScenes(str(tmp_path / "out")).scene("train", entry["key"])
    assert scene.frame_names == ["33", "66"]
    torch.testing.assert_close(scene.points, entry["points"])
    np.testing.assert_allclose(scene.depth(1), depth, rtol=1e-3)
    assert (scene.near, scene.far) == (1.0, 10.0)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    noise((8, 8), 60).save(buffer, "JPEG")
    return buffer.getvalue()


def test_what_is_left_out_is_reported(tmp_path, capsys):
    root = write_captures(tmp_path / "in", 4)
    (root / "scene0/images/1.jpg").write_bytes(b"no picture")
    (root / "scene0/images/2.jpg").unlink()
    (root / "scene1/transforms.json").write_text("{")
    for number in range(3):
        (root / f"scene2/images/{number}.jpg").unlink()
    assert convert(root, "--output", tmp_path / "out") == 0
    source = ChunkScenes(str(tmp_path / "out"))
    assert source.keys("test") == ["scene0", "scene3"] and len(source.scene("test", "scene0")) == 2
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    reasons = {scene["key"]: scene["reason"] for scene in report["left_out"]}
    assert "transforms.json is no valid JSON" in reasons["scene1"]
    assert "fewer than 2 usable frames" in reasons["scene2"]
    frames = report["converted"][0]["left_out_frames"]
    assert sorted(sum(frames.values(), [])) == ["images/1.jpg", "images/2.jpg"]
    out = capsys.readouterr().out
    assert "left out 2 of 4 scenes" in out and "pictures are damaged" in out


def test_nothing_usable_is_an_error(tmp_path, capsys):
    source = write_capture(tmp_path / "door", frames=1)
    assert convert(source, "--output", tmp_path / "out") == 2
    assert "none of the 1 scenes could be converted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["out of"], "no data of a known kind"),
        (["in", "--split", "train", "--test_every", "2"], "exclude each other"),
        (["in", "--near", "5", "--far", "2"], "expected near < far"),
        (["in", "--near", "null"], "left out together"),
        (["in", "--quality", "0"], "quality is 0"),
        (["in", "--image_shape", "[4,4]", "--max_side", "9"], "exclude each other"),
        (["in", "in"], "two scenes are called 'in/scene0'"),
        (["in", "--chunk_mb", "0"], "chunk_mb is 0"),
        (["in", "--fromat", "colmap"], "did you mean format"),
    ],
)
def test_mistakes_are_short_errors(tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_captures(tmp_path / "in", 1)
    (tmp_path / "out of").mkdir()
    try:
        code = convert(*arguments, "--output", "out")
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err
    assert not Path("out/test").exists()


def test_what_is_there_is_never_overwritten(tmp_path, capsys):
    source = write_capture(tmp_path / "door")
    assert convert(source, "--output", tmp_path / "out") == 0
    before = content(tmp_path / "out")
    assert convert(source, "--output", tmp_path / "out", "--quality", 80) == 2
    assert "is not empty; choose another --output" in capsys.readouterr().err
    # The same command has nothing left to do.
    assert convert(source, "--output", tmp_path / "out") == 0
    assert "report:" in capsys.readouterr().out and content(tmp_path / "out") == before


def test_scenes_of_one_name_are_told_apart_by_their_folders(tmp_path):
    write_capture(tmp_path / "a/nerfstudio")
    write_capture(tmp_path / "b/nerfstudio")
    convert(tmp_path / "a/nerfstudio", tmp_path / "b/nerfstudio", "--output", tmp_path / "out")
    assert ChunkScenes(str(tmp_path / "out")).keys("test") == ["a/nerfstudio", "b/nerfstudio"]


class Stopped(BaseException):
    """The process is gone."""


def test_an_interruption_at_any_moment_changes_nothing(tmp_path, monkeypatch):
    """Stopped before and after each file takes its name, then run again."""
    root = write_captures(tmp_path / "in", 4, frames=2)
    options = ["--chunk_mb", 0.001, "--test_every", 3, "--near", 1, "--far", 9]
    convert(root, "--output", tmp_path / "whole", *options)
    expected = content(tmp_path / "whole")
    assert sum(name.endswith(".torch") for name in expected) > 2

    replace, moments = os.replace, 0
    for moment in range(1000):
        calls = 0

        def stopping(source, target):
            nonlocal calls
            if calls == moment:
                raise Stopped
            replace(source, target)
            calls += 1
            if calls == moment and moment % 2:
                raise Stopped

        output = tmp_path / f"out{moment}"
        monkeypatch.setattr(os, "replace", stopping)
        try:
            convert(root, "--output", output, *options)
            stopped = False
        except Stopped:
            stopped = True
        monkeypatch.setattr(os, "replace", replace)
        if not stopped:
            break
        moments += 1
        assert not (output / "conversion.json").exists() or moment % 2
        convert(root, "--output", output, *options)
        assert content(output) == expected
    assert moments > 15


def test_a_conversion_with_other_options_does_not_go_on(tmp_path, monkeypatch, capsys):
    root = write_captures(tmp_path / "in", 3, frames=2)
    replace = os.replace

    def stopping(source, target):
        replace(source, target)
        if str(target).endswith("000001.json"):
            raise Stopped

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(Stopped):
        convert(root, "--output", tmp_path / "out")
    monkeypatch.undo()
    assert convert(root, "--output", tmp_path / "out", "--quality", 80) == 2
    assert (
        "an interrupted conversion of other data or with other options" in capsys.readouterr().err
    )
    assert convert(root, "--output", tmp_path / "out") == 0
    assert len(ChunkScenes(str(tmp_path / "out")).keys("test")) == 3


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch, capsys):
    root = write_captures(tmp_path / "in", 3, frames=2)
    write = Path.write_bytes
    calls = 0

    def full(self, data):
        nonlocal calls
        calls += 1
        if calls == 3:
            write(self, bytes(data)[:100])
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert convert(root, "--output", tmp_path / "out") == 2
    assert "no space is left" in capsys.readouterr().err
    assert convert(root, "--output", tmp_path / "out") == 0
    assert len(ChunkScenes(str(tmp_path / "out")).keys("test")) == 3


@pytest.mark.slow
def test_kill_9_leaves_no_process_and_is_made_good(tmp_path):
    root = write_captures(tmp_path / "in", 9, frames=4, size=(480, 360), distortion=-0.1)
    options = ["--chunk_mb", "1", "--workers", "2"]
    command = [sys.executable, "-m", "mvsplat", "convert", str(root), "--output"]
    process = subprocess.Popen([*command, str(tmp_path / "out"), *options], start_new_session=True)
    results = tmp_path / "out/.conversion"
    deadline = time.monotonic() + 120
    while len(list(results.glob("0*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    assert not (tmp_path / "out/test/index.json").exists()
    assert convert(root, "--output", tmp_path / "out", "--chunk_mb", 1, workers=2) == 0
    convert(root, "--output", tmp_path / "whole", "--chunk_mb", 1)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_captures_of_several_formats_become_one_data_set(tmp_path):
    door = wall.write_colmap(tmp_path / "door", 5, (80, 120))
    fox = wall.write_transforms(tmp_path / "fox", 7, (90, 160), k1=0.05, k2=-0.01, p1=0.001)
    assert convert(door, fox, "--output", tmp_path / "out", "--max_side", 60) == 0
    source = ChunkScenes(str(tmp_path / "out"))
    assert source.keys("test") == ["door", "fox"]
    for key, frames, size in (("door", 5, (40, 60)), ("fox", 7, (34, 60))):
        scene = source.scene("test", key)
        assert len(scene) == frames and scene.image(0).size == size
        # All there is lies at one depth; points of the model and points found in pictures say so.
        assert 0.6 * wall.DEPTH < scene.near < wall.DEPTH < scene.far < 2.6 * wall.DEPTH
        torch.testing.assert_close(scene.extrinsics[:, 0, 3], wall.STEP * torch.arange(frames))
