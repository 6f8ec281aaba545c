"""A new run in a used folder: everything of the earlier one is set aside, and nothing else."""

import os
from pathlib import Path

import pytest
import yaml

from mvsplat.training.earlier_run import EarlierRun
from mvsplat.training.folder_lock import LOCK

RESOLVED = {
    "run_dir": "anywhere",
    "checkpoint": {},
    "best_checkpoint": {},
    "results": {"folder": "test"},
    "trainer": {"logger": {"init_args": {"save_dir": "", "name": "logs"}}},
}


def write(path: Path, text: str = "earlier") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def config(run: Path, name: str = "config.yaml", **changes) -> None:
    write(run / name, yaml.safe_dump(RESOLVED | changes))


def set_aside(run: Path) -> tuple[set[str], set[str]]:
    """What lies in ``earlier-1`` afterwards, and what besides it."""
    EarlierRun(run).set_aside()
    left = {name for name in files(run) if not name.startswith("earlier-1/")}
    return files(run / "earlier-1"), left


def test_every_commands_results_go_with_the_run(program):
    assert program("fit") == 0, program.err
    for command, *arguments in (
        ("validate",),
        ("test", "--results.folder=elsewhere/rooms"),
        ("test", "--results.folder=other_data"),
        ("test",),
        ("predict", "--predictions.films=[]"),
    ):
        assert program(command, "--ckpt_path=last", *arguments) == 0, program.err
    run = program.run_dir
    notes = write(run / "notes.txt")
    before = files(run) - {"notes.txt", LOCK}
    assert {"other_data/scores.json", "test/scores.json", "validate/config.yaml"} <= before

    earlier = EarlierRun(run)
    earlier.set_aside()
    assert files(run / "earlier-1") == before
    assert {path.name for path in run.iterdir()} == {notes.name, "earlier-1", LOCK}

    config(run)
    write(run / "logs" / "events.out.tfevents.new")
    earlier.put_back()
    assert files(run) == before | {"notes.txt", LOCK}
    assert not (run / "earlier-1").exists()


def test_results_without_checkpoints_are_set_aside(tmp_path):
    write(tmp_path / "test" / "scores.json", '{"settings": {}, "scenes_tested": 1}')
    write(tmp_path / "predictions" / "room.ply")
    moved, left = set_aside(tmp_path)
    assert moved == {"test/scores.json", "predictions/room.ply"} and not left


def test_a_failed_start_is_no_run(tmp_path):
    config(tmp_path)
    write(tmp_path / "logs" / "hparams.yaml")
    moved, left = set_aside(tmp_path)
    assert not moved and left == {"config.yaml", "logs/hparams.yaml"}


@pytest.mark.parametrize("absolute", [False, True])
def test_configured_folders_are_followed_inside_the_run_folder(tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run" if absolute else Path("run")
    logger = {"init_args": {"save_dir": str(run / "curves"), "name": "all", "version": "3"}}
    results = str(tmp_path / "run" / "mine" / "rooms") if absolute else "mine/rooms"
    config(run, results={"folder": results}, trainer={"logger": [logger]})
    write(run / "mine" / "rooms" / "sheets" / "room.png")
    write(run / "curves" / "all" / "3" / "metrics.csv")
    write(run / "mine" / "notes.txt")
    moved, left = set_aside(run)
    assert moved == {"config.yaml", "mine/rooms/sheets/room.png", "curves/all/3/metrics.csv"}
    assert left == {"mine/notes.txt"}


def test_folders_outside_stay(tmp_path):
    run = tmp_path / "run"
    logger = {"init_args": {"save_dir": str(tmp_path), "name": "curves"}}
    config(run, results={"folder": str(tmp_path / "out")}, trainer={"logger": logger})
    outside = {
        write(tmp_path / "out" / "scores.json"),
        write(tmp_path / "curves" / "events.out.tfevents.1"),
        write(tmp_path / "test" / "scores.json"),
    }
    write(run / "checkpoints" / "last.ckpt")
    moved, left = set_aside(run)
    assert moved == {"config.yaml", "checkpoints/last.ckpt"} and not left
    assert all(path.is_file() for path in outside)


def test_foreign_files_stay(tmp_path, monkeypatch):
    """A run in the working directory, among a user's photographs, data and other runs."""
    monkeypatch.chdir(tmp_path)
    foreign = {
        "config.yaml": "model: {}\nrun_dir: .",
        "images/IMG_0001.jpg": "",
        "images/left/000001.jpg": "",
        "test/index.json": "{}",
        "test/000000.torch": "",
        "checkpoints/re10k.ckpt": "",
        "logs/slurm-12.out": "",
        "other/checkpoints/last.ckpt": "",
        "other/test/scores.json": "",
        "another/test/config.yaml": "",
        "another/test/scores.json": '{"scenes_tested": 1}',
        "other/scores.json": '{"scenes_tested": 1}',
        "scores/scores.json": '{"football": 1}',
        "earlier-0/checkpoints/last.ckpt": "",
    }
    ours = ["checkpoints/last.ckpt", "checkpoints/step-0000002.ckpt", "logs/events.out.tfevents.1"]
    ours += ["images/validation_step_0000002.png", "test/scores.json", "test/sheets/a.png"]
    for name, text in foreign.items():
        write(tmp_path / name, text)
    for name in ours:
        write(tmp_path / name)
    moved, left = set_aside(Path("."))
    assert moved == set(ours)
    assert left == set(foreign)


def test_earlier_runs_stay_where_they_are(tmp_path):
    write(tmp_path / "earlier-1" / "checkpoints" / "last.ckpt", "first")
    write(tmp_path / "checkpoints" / "last.ckpt", "second")
    EarlierRun(tmp_path).set_aside()
    assert files(tmp_path) == {
        "earlier-1/checkpoints/last.ckpt", "earlier-2/checkpoints/last.ckpt",
    }  # fmt: skip
    assert (tmp_path / "earlier-1/checkpoints/last.ckpt").read_text() == "first"


def test_a_link_to_another_disk_is_moved_as_a_link(tmp_path):
    elsewhere = tmp_path / "disk"
    write(elsewhere / "last.ckpt")
    run = tmp_path / "run"
    run.mkdir()
    os.symlink(elsewhere, run / "checkpoints")
    earlier = EarlierRun(run)
    earlier.set_aside()
    assert (elsewhere / "last.ckpt").is_file()
    assert (run / "earlier-1" / "checkpoints").is_symlink()
    write(run / "checkpoints" / "last.ckpt", "new")
    earlier.put_back()
    assert (run / "checkpoints" / "last.ckpt").read_text() == "earlier"
    assert files(elsewhere) == {"last.ckpt"}
