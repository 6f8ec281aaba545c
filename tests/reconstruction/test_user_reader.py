"""A reader of another package, one class in one file, in every command that reads scenes."""

import csv
import logging
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mvsplat.data import AnyScenes, open_scenes
from mvsplat.data.readers import registry

EXAMPLE = Path(__file__).parent / "lab_reader.py"


def install(site: Path, points: dict[str, str], name: str = "lab-reader") -> Path:
    """What pip leaves of a package with entry points."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (info / "entry_points.txt").write_text(f"[mvsplat.readers]\n{lines}")
    return site


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, on the search path."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in ("lab_reader", "broken_reader", "other_reader"):
        sys.modules.pop(name, None)


@pytest.fixture
def lab(site):
    return install(site, {"lab": "lab_reader:LabReader"})


@pytest.fixture
def capture(room, tmp_path):
    """The room's frames as the lab would have taken them."""
    folder = tmp_path / "captures/kitchen"
    folder.mkdir(parents=True)
    rows = []
    for index in range(len(room)):
        picture = room.image(index)
        picture.save(folder / f"{index}.png")
        focal = float(room.intrinsics[index, 0, 0]) * picture.width
        pose = room.extrinsics[index].double().flatten().tolist()
        rows.append([f"{index}.png", picture.width, picture.height, focal, *pose])
    with (folder / "cameras.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 40


def test_it_is_opened_like_ours(lab, capture, room):
    source = open_scenes(capture)
    assert source.keys("test") == ["kitchen"] and source.keys("train") == []
    scene = pickle.loads(pickle.dumps(source)).scene("test", "kitchen")
    torch.testing.assert_close(scene.extrinsics, room.extrinsics, atol=1e-5, rtol=0)
    torch.testing.assert_close(scene.intrinsics, room.intrinsics, atol=1e-5, rtol=0)
    assert open_scenes(capture.parent).keys("test") == ["kitchen"]
    assert open_scenes(capture.parents[1]).keys("test") == ["captures/kitchen"]
    assert AnyScenes(test=[str(capture)], format="lab").keys("test") == ["kitchen"]
    (capture / "cameras.csv").rename(capture / "poses.csv")
    with pytest.raises(ValueError, match=r"has poses\.csv; rename it to cameras\.csv"):
        open_scenes(capture)
    (capture / "poses.csv").unlink()
    with pytest.raises(ValueError, match="expected a capture of our lab .*; chunks"):
        open_scenes(capture)


def test_it_is_found_by_its_import_path_without_a_package(site, capture):
    assert open_scenes(capture, "lab_reader.LabReader").keys("test") == ["kitchen"]
    with pytest.raises(ValueError, match="'lab_reader.Missing' cannot be used: .*AttributeError"):
        open_scenes(capture, "lab_reader.Missing")


def test_every_command_reads_it(lab, capture, program, checkpoint, tmp_path, quick):
    arguments = ("--output", tmp_path / "chunks", "--workers", "1")
    assert program("convert", capture, *arguments, config=False) == 0, program.err
    assert open_scenes(tmp_path / "chunks").keys("test") == ["kitchen"]

    arguments = ("--output", tmp_path / "index.json", "--choice", "WholeScene", "--rows", "0")
    arguments += ("--format", "lab", "--workers", "0")
    assert program("index", capture, *arguments, config=False) == 0, program.err
    assert "kitchen" in (tmp_path / "index.json").read_text()

    arguments = ("--checkpoint", checkpoint, "--output", tmp_path / "scene", "--refine=off")
    assert program("reconstruct", capture, *arguments, config=False) == 0, program.err
    assert "Estimating cameras" not in program.err
    assert (tmp_path / "scene/scene.ply").is_file()
    # What was written is an input of its own, with its cameras.
    assert len(open_scenes(tmp_path / "scene").scene("test", "scene")) == 8


def test_training_and_testing_read_it(lab, capture, program):
    source = ["--data.source", "AnyScenes", "--data.source.train", f"[{capture}]"]
    source += ["--data.source.test", f"[{capture}]", "--data.frame_shape", "null"]
    assert program("fit", *source, "--trainer.max_steps", "1") == 0, program.err
    assert program("test", *source, "--ckpt_path", "last") == 0, program.err
    assert "kitchen" in (program.run_dir / "test/scores.json").read_text()


def test_another_process_finds_it(lab, capture):
    code = f"import mvsplat.data as d; print(d.open_scenes({str(capture)!r}).keys('test'))"
    environment = {"PYTHONPATH": f"{lab}:{Path(__file__).parents[2]}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "['kitchen']\n", done.stderr


BROKEN = """
from pathlib import Path

from mvsplat.data import Reader


class Greedy(Reader):
    expected = "anything"

    def recognises(self, path):
        return True

    def read(self, path):
        return {}["no such key"]


class Stumbling(Greedy):
    def recognises(self, path):
        return 1 / 0


class Wordless(Reader):
    def recognises(self, path):
        return True


class Wrong(Greedy):
    def read(self, path):
        return "a scene"

    def open(self, path, split):
        return super().open(path, split) if split == "test" else None
"""


def test_broken_readers_are_named_and_the_others_go_on(site, capture, caplog):
    (site / "other_reader.py").write_text(BROKEN)
    (site / "broken_reader.py").write_text("import a_module_that_is_not_there")
    points = {
        "lab": "lab_reader:LabReader",
        "broken": "broken_reader:Reader",
        "missing": "other_reader:Missing",
        "wordless": "other_reader:Wordless",
        "function": "other_reader:Path",
        "stumbling": "other_reader:Stumbling",
        "colmap": "lab_reader:LabReader",
    }
    install(site, points)
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert open_scenes(capture).keys("test") == ["kitchen"]
    told = [record.getMessage() for record in caplog.records]
    for name, reason in {
        "broken": "a_module_that_is_not_there",
        "missing": "no attribute 'Missing'",
        "wordless": "does not say what is `expected`",
        "function": "no class derived from mvsplat.data.Reader",
        "stumbling": "ZeroDivisionError",
        "colmap": "the name is taken",
    }.items():
        assert sum(f"reader {name!r} (" in line and reason in line for line in told) == 1, told
    assert all("of lab-reader" in line for line in told)
    with pytest.raises(ValueError, match="'broken' cannot be used: .*a_module_that_is_not_there"):
        open_scenes(capture, "broken")


def test_what_a_reader_of_a_user_returns_is_checked(site, capture):
    (site / "other_reader.py").write_text(BROKEN)
    with pytest.raises(ValueError, match="Greedy failed: KeyError: 'no such key'"):
        open_scenes(capture, "other_reader.Greedy").scene("test", "kitchen")
    with pytest.raises(ValueError, match="Wrong.read returned 'a scene', expected a Scene"):
        open_scenes(capture, "other_reader.Wrong").scene("test", "kitchen")
    with pytest.raises(ValueError, match="opened it as None, expected a SceneSource"):
        open_scenes(capture, "other_reader.Wrong", "train")


def test_two_that_fit_are_both_named_and_one_comes_before_ours(site, capture, posed):
    (site / "other_reader.py").write_text(BROKEN)
    install(site, {"lab": "lab_reader:LabReader"})
    install(site, {"greedy": "other_reader:Greedy"}, "other-package")
    with pytest.raises(ValueError, match=r"'lab' \(lab_reader:LabReader of lab-reader\)") as error:
        open_scenes(capture)
    assert "'greedy' (other_reader:Greedy of other-package)" in str(error.value)
    assert "--format NAME" in str(error.value)
    assert open_scenes(capture, "lab").keys("test") == ["kitchen"]
    # Which somebody installed to be used: before our own.
    assert registry.recognise(posed).name == "greedy"
    assert type(open_scenes(posed, "transforms")).__name__ == "TransformsScenes"


def test_unknown_names_are_refused_with_those_that_are_known(lab, capture, program):
    with pytest.raises(ValueError, match="no format 'colmpa'; did you mean 'colmap'") as error:
        AnyScenes(test=[str(capture)], format="colmpa")
    assert "lab, chunks, transforms" in str(error.value)
    for command in ("convert", "index"):
        output = capture.parent / "index.json"
        code = program(command, capture, "--output", output, "--format", "labb", config=False)
        assert code == 2 and "did you mean 'lab'?" in program.err
