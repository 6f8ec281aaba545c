"""verify: finds what is wrong with a folder of chunks, and mends its index."""

import json

import pytest
import torch
from data.tiny_scenes import encoded, make_entry, write_dataset
from PIL import Image

from mvsplat.__main__ import main
from mvsplat.data import ChunkScenes
from mvsplat.data.chunks.storage import save_chunk


@pytest.fixture
def chunks(tmp_path):
    """Two chunks of three and one training scenes, one of two test scenes."""
    return write_dataset(tmp_path / "data", train=4, test=2)


def verify(*arguments) -> int:
    try:
        return main(["verify", *map(str, arguments), "--workers", "0"])
    except SystemExit as stop:
        return stop.code


def test_a_good_set(chunks, capsys):
    assert verify(chunks) == 0
    out = capsys.readouterr().out
    assert "nothing is wrong" in out and "16x12" in out
    assert verify(chunks / "train") == 0


def break_picture(root):
    entry = make_entry("a00")
    entry["images"][4] = entry["images"][4][:40]
    save_chunk(root / "train/000000.torch", [entry, make_entry("a01"), make_entry("a02")])


def break_camera(root):
    entry = make_entry("a00")
    entry["cameras"][3, 0] = float("nan")
    save_chunk(root / "train/000000.torch", [entry, make_entry("a01"), make_entry("a02")])


def break_depth(root):
    entry = make_entry("a00", depth=True)
    entry["images"] = [encoded(Image.new("RGB", (5, 5)))] * 9
    save_chunk(root / "train/000000.torch", [entry, make_entry("a01"), make_entry("a02")])


def edit_index(**changes):
    def edit(root):
        path = root / "train/index.json"
        index = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in index.items() if v is not None}))

    return edit


DAMAGE = [
    (break_picture, "000000.torch, scene 'a00': image 4 cannot be decoded"),
    (break_camera, "000000.torch, scene 'a00': the camera of frame 3 has a number"),
    (break_depth, "000000.torch, scene 'a00': depth 0 is 16 x 12, its picture is not"),
    (
        lambda root: (root / "train/000001.torch").write_bytes(b"PK nonsense"),
        "000001.torch is damaged",
    ),
    (lambda root: (root / "train/000001.torch").unlink(), "names 000001.torch, which is not there"),
    (lambda root: (root / "train/index.json").unlink(), "index.json is missing"),
    (lambda root: (root / "train/index.json").write_text("[]"), "index.json holds a list"),
    (edit_index(a01=None), "lacks scene 'a01' of 000000.torch"),
    (edit_index(zz="000000.torch"), "says that scene 'zz' is in 000000.torch, but it is not"),
    (edit_index(a03="000000.torch"), "says that scene 'a03' is in 000000.torch, but it is not"),
    (
        lambda root: save_chunk(root / "train/000002.torch", [make_entry("t01")]),
        "scene 't01' is both in",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_found(chunks, damage, message, capsys, tmp_path):
    damage(chunks)
    assert verify(chunks, "--report", tmp_path / "report.json") == 1
    assert message in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert any(message in problem for split in report.values() for problem in split["problems"])


@pytest.mark.parametrize("number", range(3, 10))
def test_an_index_is_rebuilt_of_what_can_be_read(chunks, number, capsys):
    DAMAGE[number][0](chunks)
    code = verify(chunks, "--rebuild_index")
    assert "index.json: written" in capsys.readouterr().out
    source = ChunkScenes(str(chunks))
    keys = source.keys("train")
    assert set(keys) >= {"a00", "a01", "a02"} and all(source.scene("train", key) for key in keys)
    assert code == (1 if number == 3 else 0)  # a damaged chunk stays damaged
    assert verify(chunks) == code


def test_no_index_can_name_two(chunks, capsys):
    save_chunk(chunks / "train/000009.torch", [make_entry("a00")])
    assert verify(chunks, "--rebuild_index") == 2
    assert "scene 'a00' is both in" in capsys.readouterr().err


def test_less_than_all_pictures(chunks):
    break_picture(chunks)
    (chunks / "train/checksums.json").unlink()  # they would tell
    assert verify(chunks, "--pictures", "first") == 0
    assert verify(chunks, "--pictures", "none") == 0


def test_another_file_than_its_checksum_says(chunks, capsys):
    save_chunk(chunks / "train/000000.torch", [make_entry(f"a0{n}", frames=4) for n in range(3)])
    assert verify(chunks) == 1
    assert "000000.torch is another file than" in " ".join(capsys.readouterr().out.split())
    assert verify(chunks, "--rebuild_index") == 0 and verify(chunks) == 0


def test_there_must_be_chunks(tmp_path, capsys):
    assert verify(tmp_path) == 2
    assert "holds no .torch chunks" in capsys.readouterr().err


def test_in_several_processes(chunks):
    assert main(["verify", str(chunks), "--workers", "2"]) == 0


def test_memory_tricks_are_refused(chunks):
    entry = make_entry("a00")
    entry["images"] = [torch.zeros(1, dtype=torch.uint8).expand(10**12)] * 9
    torch.save([entry], chunks / "train/000000.torch")
    assert verify(chunks) == 1
