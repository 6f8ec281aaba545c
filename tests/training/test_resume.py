"""A run survives: killed at any moment, told to stop, or out of disk, it goes on bit by bit."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import assert_all_end

from mvsplat.training.resuming import TRAINED

TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
KILLS = {0: 2, 2: 1}  # by the number of loader workers
SEED = os.environ.get("MVSPLAT_SEED", "0")
if "MVSPLAT_KILLS" in os.environ:
    KILLS = dict.fromkeys(KILLS, int(os.environ["MVSPLAT_KILLS"]))


def options(workers: int) -> list[str]:
    """A run whose schedule, gaps between views, flips and order of scenes all change with time."""
    settings = {
        "trainer.max_steps": 8,
        "trainer.val_check_interval": 3,
        "trainer.logger": "false",
        "data.train_loader.num_workers": workers,
        "data.train_loader.batch_size": 2,
        # These processes come from a fork server, and would start another one for the workers.
        "data.train_loader.multiprocessing_context": "fork" if workers else "null",
        "data.train_views.min_gap": 2,
        "data.train_views.max_gap": 5,
        "data.train_views.warm_up_steps": 8,
        "data.train_views.initial_max_gap": 3,
        "data.train_views.initial_min_gap": 1,
        "model.schedule.warmup_fraction": 0.2,
        "checkpoint.every_n_steps": 1,
        "averaging.decay": 0.9,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def run(arguments: list[str], log: Path) -> None:
    """``mvsplat`` in a process of its own, what it prints in a file."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    from mvsplat.__main__ import main

    raise SystemExit(main(arguments))


class Runs:
    """Starts ``mvsplat fit`` in processes that have imported everything already."""

    def __init__(self, folder: Path, scenes: Path):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mvsplat.cli.trainer_commands"])
        self.folder = folder
        self.scenes = scenes

    def start(self, name: str, arguments: list[str], command: str = "fit"):
        common = ["--config", str(TINY), "--run_dir", str(self.folder / name)]
        common += ["--data.source.root", str(self.scenes)]
        log = self.folder / f"{name}.log"
        process = self.context.Process(target=run, args=([command, *common, *arguments], log))
        process.start()
        return process

    def finish(self, name: str, arguments: list[str], command: str = "fit") -> int:
        process = self.start(name, arguments, command)
        process.join(200)
        assert process.exitcode is not None, self.log(name)
        return process.exitcode

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def checkpoints(self, name: str) -> Path:
        return self.folder / name / "checkpoints"

    def state(self, name: str, file: str = "last.ckpt") -> dict:
        return torch.load(self.checkpoints(name) / file, weights_only=True)


@pytest.fixture
def runs(tmp_path, scenes_root):
    return Runs(tmp_path, scenes_root)


def differences(a, b, where="") -> list[str]:
    """Where two nested values are not the same, bit by bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = [] if a.keys() == b.keys() else [f"{where}: keys"]
        return found + [
            d for key in a.keys() & b for d in differences(a[key], b[key], f"{where}/{key}")
        ]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for n, pair in enumerate(zip(a, b)) for d in differences(*pair, f"{where}/{n}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [where]


def assert_same_run(one: dict, two: dict) -> None:
    """Weights, optimizer, schedule, place in the data and skipped steps."""
    for part in (
        "state_dict",
        "optimizer_states",
        "lr_schedulers",
        "SceneDataModule",
        "global_step",
    ):
        assert not differences(one[part], two[part], part)
    assert not differences(one["callbacks"], two["callbacks"], "callbacks")
    # Beside averages, if there are any.
    assert not differences(one.get(TRAINED), two.get(TRAINED), TRAINED)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(runs, workers):
    """``MVSPLAT_KILLS`` says how often each of the two is killed: a hundred take some minutes.

    ``MVSPLAT_SEED`` gives other moments; what a test printed gives the same ones again.
    """
    moments = random.Random(f"{SEED}, {workers} workers")
    print(f"MVSPLAT_SEED={SEED}")
    arguments = options(workers)
    assert runs.finish("first", arguments) == 0, runs.log("first")  # which compiles
    start = time.monotonic()
    assert runs.finish("whole", arguments) == 0, runs.log("whole")
    duration = time.monotonic() - start
    assert_same_run(runs.state("whole"), runs.state("first"))
    kills = number = 0
    while kills < KILLS[workers]:
        number += 1
        kills += survive(runs, f"killed{number}", arguments, duration, moments)
        assert_same_run(runs.state("whole"), runs.state(f"killed{number}"))
        print(f"{kills} kills in {number} runs")


def survive(
    runs: Runs, name: str, arguments: list[str], duration: float, moments: random.Random
) -> int:
    """Kill a run again and again, at random moments, until it ends; returns how often."""
    kills = 0
    while True:
        resume = ["--ckpt_path=last"] if list(runs.checkpoints(name).glob("[!.]*.ckpt")) else []
        process = runs.start(name, arguments + resume)
        moment = moments.uniform(0, duration)
        process.join(moment)
        if process.exitcode is not None:
            assert process.exitcode == 0, runs.log(name)
            return kills
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        print(f"{name}: killed after {moment:.3f} s of {duration:.3f} s")
        assert_all_end(group=process.pid)  # the loader's workers, too
