"""Two processes (DDP on the CPU): the same training and the same scores as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from mvsplat import load_model
from mvsplat.data.loading.loaders import ExampleBatches
from mvsplat.evaluation import evaluate, mean_scores
from mvsplat.losses import Loss
from mvsplat.training.preemption import Preemption
from mvsplat.types import Batch, Views

pytestmark = pytest.mark.slow
TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
TWO = ["--trainer.strategy=ddp", "--trainer.devices=2"]
# Gradients reach the weights as they are, so that these can be compared after a few steps; larger
# steps make rounding visible, where it lets a ReLU pass one of the few pixels or not.
PLAIN = ["--model.optimizer=SGD", "--model.optimizer.lr=0.03", "--model.schedule=null"]


class Recorder(Callback):
    """Writes what its process was trained on to a file of its own.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.seen: list[tuple[str, list[int]]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append((batch.scene, batch.target.index.tolist()))

    def on_train_end(self, trainer, pl_module):
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(self.seen))


class Terminated(Callback):
    """SIGTERM comes to the last process alone.

    Args:
        batch: In this training batch.
    """

    def __init__(self, batch: int):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Fails(Callback):
    """One process fails after two steps; writes down when.

    Args:
        rank: Which.
        where: ``callback``, ``loader``, or ``alone``: while the other is busy for ever.
        folder: Where to write it.
    """

    def __init__(self, rank: int, where: str, folder: str):
        self.rank = rank
        self.where = where
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2 and trainer.global_rank == self.rank and self.where != "loader":
            self.fail()
        elif batch_idx == 2 and self.where == "alone":
            time.sleep(1000)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1 and trainer.global_rank == self.rank and self.where == "loader":
            ExampleBatches.__getitem__ = self.fail

    def fail(self, *_):
        (self.folder / "failed").touch()
        raise ValueError("one process is broken")


class Spoiled(Loss):
    """Adds nothing, but is NaN once, in the last process.

    Args:
        batch: In this training batch.
        weight: Factor of this term in the sum.
    """

    def __init__(self, batch: int, weight: float = 1.0):
        super().__init__(weight)
        self.batch = batch
        self.calls = 0

    def forward(self, rendering, batch, gaussians):
        self.calls += 1
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        last = world == 1 or torch.distributed.get_rank() == world - 1
        spoil = last and self.calls == self.batch + 1
        return rendering.color.sum() * (torch.nan if spoil else 0)


def in_two_processes(program, command: str, *arguments: str, fails: bool = False) -> str:
    """``mvsplat`` as a user starts it, until both have ended; returns what it said."""
    common = ["--config", str(TINY), "--run_dir", str(program.run_dir)]
    common += ["--data.source.root", str(program.scenes)]
    result = subprocess.run(
        [sys.executable, "-m", "mvsplat", command, *common, *TWO, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert bool(result.returncode) is fails, result.stderr[-3000:]
    return result.stderr


def state(program) -> dict:
    return torch.load(program.checkpoint(), weights_only=True)


def distance(one: dict, two: dict) -> float:
    return sum(float((one[name] - two[name]).square().sum()) for name in one) ** 0.5


@pytest.fixture(autouse=True)
def one_thread():
    """As Lightning gives each of several processes: other numbers round sums differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def start(program):
    """The weights before the first step."""
    assert program("fit", "--trainer.max_steps=1", *PLAIN, "--model.optimizer.lr=0") == 0
    return state(program)["state_dict"]


def assert_same_steps(start, one, two):
    """Up to the order in which gradients are summed."""
    assert distance(one, two) < 1e-4 * distance(start, one) != 0


def test_two_processes_train_as_one_with_twice_the_batch(program, start, tmp_path):
    record = [f"--trainer.callbacks={__name__}.Recorder", f"--trainer.callbacks.folder={tmp_path}"]
    arguments = ["--trainer.max_steps=3", *PLAIN, *record]
    assert program("fit", "--data.train_loader.batch_size=2", *arguments) == 0, program.err
    whole = state(program)["state_dict"]
    together = json.loads((tmp_path / "0.json").read_text())
    in_two_processes(program, "fit", *arguments, "--trainer.num_sanity_val_steps=1")
    assert_same_steps(start, whole, state(program)["state_dict"])
    split = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for batch, first, second in zip(together, *split, strict=True):
        # The same samples, with the same views, and none twice.
        assert batch == [first[0] + second[0], first[1] + second[1]]
        assert first != second


def test_two_processes_skip_the_same_step_and_stop_together(program, start):
    """One of them has a loss of NaN, and is told to stop later."""
    spoiled = [f"--model.losses.spoiled={__name__}.Spoiled", "--model.losses.spoiled.batch=1"]
    arguments = [*PLAIN, *spoiled, "--checkpoint.every_n_steps=100"]
    batch = "--data.train_loader.batch_size=2"
    assert program("fit", "--trainer.max_steps=4", batch, *arguments) == 0, program.err
    whole = state(program)
    assert whole["callbacks"]["FiniteSteps"]["total"] == 1

    stop = [f"--trainer.callbacks={__name__}.Terminated", "--trainer.callbacks.batch=2"]
    said = in_two_processes(program, "fit", "--trainer.max_steps=4", *stop, *arguments)
    stopped = state(program)
    assert stopped["global_step"] == 3 and stopped["SceneDataModule"]["position"] == 6
    assert "step 1 is skipped: its loss is not finite" in said
    resume = ["--ckpt_path=last", "--model.losses.spoiled.batch=99"]
    # The rest in one process, of twice the batch.
    assert program("fit", "--trainer.max_steps=4", batch, *arguments, *resume) == 0, program.err
    assert_same_steps(start, whole["state_dict"], state(program)["state_dict"])


@pytest.mark.parametrize(("rank", "where"), [(1, "callback"), (0, "loader"), (0, "alone")])
def test_one_process_that_fails_ends_both_with_a_checkpoint(program, tmp_path, rank, where):
    fails = {"rank": rank, "where": where, "folder": tmp_path}
    callback = [f"--trainer.callbacks={__name__}.Fails"]
    callback += [f"--trainer.callbacks.{name}={value}" for name, value in fails.items()]
    arguments = ["--trainer.max_steps=9", "--checkpoint.every_n_steps=100", *callback]
    said = in_two_processes(program, "fit", *arguments, fails=True)
    assert time.time() - (tmp_path / "failed").stat().st_mtime < 60
    assert "one process is broken" in said
    saved = state(program)
    # The loader is asked for the next batch before the one it has is used.
    assert saved["global_step"] == 2 and saved["SceneDataModule"]["position"] == 4
    arguments = ["--ckpt_path=last", "--trainer.max_steps=3"]
    assert program("fit", *arguments) == 0, program.err
    assert state(program)["global_step"] == 3


def test_two_processes_score_every_scene_once_and_as_one(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err

    def scores(folder):
        return json.loads((program.run_dir / folder / "scores.json").read_text())

    def flat(value):
        if isinstance(value, dict):
            return {f"{k}/{p}": v for k, item in value.items() for p, v in flat(item).items()}
        if isinstance(value, list):
            return flat(dict(enumerate(value)))
        return {"": value}

    # Of three scenes one process has two; of one scene the second process has none.
    for scenes in (3, 1):
        test = ["--ckpt_path=last", f"--data.source.test_scenes={scenes}"]
        assert program("test", *test, "--results.folder=alone") == 0, program.err
        folder = f"both{scenes}"
        in_two_processes(program, "test", *test, f"--results.folder={folder}")
        alone, both = scores("alone"), scores(folder)
        assert list(both["scenes"]) == list(alone["scenes"]) and len(both["scenes"]) == scenes
        assert both["scenes_tested"] == scenes and both["settings"]["processes"] == 2
        assert len(list((program.run_dir / folder / "sheets").iterdir())) == scenes
        for part in ("mean", "scenes"):
            one, two = flat(alone[part]), flat(both[part])
            numbers = [name for name in one if "timing" not in name]
            assert numbers == [name for name in two if "timing" not in name]
            for name in numbers:
                assert one[name] == pytest.approx(two[name], abs=1e-6), name


class HalfDeep(LightningDataModule):
    """Validation: the first process has scenes 0, 2 and 4, without depth, the other 1 and 3."""

    def train_dataloader(self):
        return DataLoader([_scene(self.trainer.global_rank + n) for n in (5, 7)], batch_size=None)

    def val_dataloader(self):
        scenes = [_scene(number, number % 2 == 1) for number in range(5)]
        return DataLoader(scenes[self.trainer.global_rank :: 2], batch_size=None)


def _scene(number: int, depth: bool = False) -> Batch:
    """Four views of noise."""
    generator = torch.Generator().manual_seed(number)
    extrinsics = torch.eye(4).repeat(1, 2, 1, 1)
    extrinsics[:, 1, 0, 3] = 0.3
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(1, 2, 1, 1)
    bounds = torch.ones(1, 2)
    views = [
        Views(torch.rand(1, 2, 3, 32, 32, generator=generator), extrinsics, intrinsics, bounds,
              10 * bounds, depth=2 + torch.rand(1, 2, 32, 32, generator=generator))
        for _ in range(2)
    ]  # fmt: skip
    if not depth:
        views[0].depth = None
    return Batch(views[0], views[1], [f"scene{number}"])


class Measured(Callback):
    """Writes what was measured.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_validation_end(self, trainer, pl_module):
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


def test_processes_without_depth_or_with_fewer_batches_keep_no_other_waiting(program, tmp_path):
    """Of five scenes one process has three, without depth, the other one two, with it."""
    assert program("fit", "--trainer.max_steps=1", "--model.optimizer.lr=0") == 0, program.err
    measured = _measured(program.checkpoint(), tmp_path)
    model = load_model(program.checkpoint())
    model.decoder.prepare(torch.device("cpu"))
    of_scenes = evaluate(model, [_scene(number, number % 2 == 1) for number in range(5)])
    expected = mean_scores(of_scenes)["model"]
    assert len(measured) == 4
    for of_process in measured:
        assert set(of_process) == {"val/psnr", "val/ssim", "val/abs_rel"}
        for name in ("psnr", "ssim", "abs_rel"):
            assert of_process[f"val/{name}"] == pytest.approx(expected[name], rel=1e-4), name
    deep = [r["scene"] for r in of_scenes if "abs_rel" in r["scores"]["model"]["mean"]]
    assert deep == ["scene1", "scene3"]


COMMANDS = ("fit", "validate")


def _measured(checkpoint: Path, folder: Path) -> list[dict[str, float]]:
    """What each of two processes says of its validation, in training and by itself."""
    for command in COMMANDS:
        (folder / command).mkdir()
    result = subprocess.run(
        [sys.executable, __file__, str(checkpoint), str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    files = [folder / command / f"{rank}.json" for command in COMMANDS for rank in (0, 1)]
    return [json.loads(file.read_text()) for file in files]


def _measure(checkpoint: str, folder: str) -> None:
    """What the test above starts: two processes on HalfDeep."""
    model = load_model(checkpoint).train()
    model.build_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    model.schedule = None
    measured = Measured(folder)
    trainer = Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_steps=2, val_check_interval=2,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[measured, Preemption()],
    )  # fmt: skip
    for command in COMMANDS:
        measured.folder = Path(folder, command)
        getattr(trainer, command)(model, datamodule=HalfDeep())


if __name__ == "__main__":
    _measure(*sys.argv[1:])
