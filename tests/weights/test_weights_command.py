"""``mvsplat weights``: the list, and bringing weights here."""

import json

import pytest

from mvsplat.weights import known


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.ckpt"
    file.write_bytes(bytes(2_100_000))
    monkeypatch.setattr(known, "SMALL_FILE", file)
    return file


def test_the_list(program, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert program("weights", config=False) == 0, program.err
    assert all(name in program.out for name in known.known_weights()), "none is cut"
    for word in ("name", "trained on", "licence", "RealEstate10K", "4 to 10", "448x768"):
        assert word in program.out
    assert program("weights", "--json", config=False) == 0
    rows = {row["name"]: row for row in json.loads(program.out)}
    assert rows["small"]["here"] == "yes" and rows["small"]["size"] == "2.1 MB"
    assert rows["mvsplat-acid"]["here"] == "no"
    assert rows["mvsplat-acid"]["file"] == "hf://dylanebert/mvsplat/acid.ckpt"
    assert "depth only" in rows["depthsplat-depth-base"]["trained on"]


def test_weights_are_brought_here(program, empty_cache):
    assert program("weights", "small", config=False) == 0
    assert program.out.strip() == str(empty_cache)
    assert program("weights", "small", "tiny", config=False) == 2
    assert "no weights are called 'tiny'" in program.err and not program.out
