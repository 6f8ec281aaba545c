"""Checkpoints: complete or absent, the newest found by itself, resumed exactly."""

import contextlib
import errno
import logging
import os
import signal
import warnings
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from mvsplat.training import checkpoint_io, folder_lock, run_folder
from mvsplat.training.checkpoint_io import AtomicCheckpointIO
from mvsplat.training.checkpoints import LatestCheckpoint
from mvsplat.training.resuming import rewind_to_step
from mvsplat.training.run_folder import best_checkpoints, find_checkpoint, latest_checkpoints


def content(step, **more):
    return {"state_dict": {"w": torch.full((100,), float(step))}, "loops": {}, **more}


def save(folder, name, step=0, age=0, **more):
    """A checkpoint that is ``age`` seconds old."""
    path = folder / "checkpoints" / name
    AtomicCheckpointIO().save_checkpoint(content(step, **more), path)
    time = 1_700_000_000 - age
    os.utime(path, (time, time))
    return path


def found(run, which="last", mode="max"):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path = find_checkpoint(run, which, mode)
    return path.name, " ".join(str(warning.message) for warning in said)


# Which file is meant


def test_last_is_the_newest_whatever_its_name(tmp_path):
    save(tmp_path, "best-20-step-0000002.ckpt", age=9)
    assert found(tmp_path) == ("best-20-step-0000002.ckpt", "")
    save(tmp_path, "step-0000001.ckpt", age=10)
    save(tmp_path, "step-0000003.ckpt", age=5)
    assert found(tmp_path) == ("step-0000003.ckpt", "")
    save(tmp_path, "last.ckpt", age=5)
    assert found(tmp_path) == ("last.ckpt", "")
    save(tmp_path, "step-0000004.ckpt", age=3)  # and then the run was killed
    assert found(tmp_path) == ("step-0000004.ckpt", "")
    save(tmp_path, "best-21-step-0000004.ckpt", age=1)
    assert found(tmp_path)[0] == "step-0000004.ckpt"
    save(tmp_path, "best-22-step-0000005.ckpt", age=0)
    assert found(tmp_path)[0] == "best-22-step-0000005.ckpt"
    # A run that was resumed from an earlier step is where that led to.
    save(tmp_path, "step-0000002.ckpt", age=-10)
    save(tmp_path, "last.ckpt", age=-10)
    (tmp_path / "checkpoints/best-22-step-0000005.ckpt").unlink()
    assert found(tmp_path)[0] == "last.ckpt"


def test_last_is_the_newest_whatever_the_clock_says(tmp_path):
    """As after a clock that was set back, or copying: the newer a file, the earlier its time."""

    def numbered(name, number):
        return save(tmp_path, name, age=100 * number, **{run_folder.NUMBER: number})

    numbered("step-0000010.ckpt", 2)
    assert found(tmp_path)[0] == "step-0000010.ckpt"
    numbered("best-20-step-0000012.ckpt", 3)
    assert found(tmp_path)[0] == "best-20-step-0000012.ckpt"
    numbered("step-0000020.ckpt", 4)
    numbered("last.ckpt", 4)
    assert found(tmp_path)[0] == "last.ckpt"
    numbered("step-0000030.ckpt", 5)  # and then the run was killed
    assert found(tmp_path)[0] == "step-0000030.ckpt"
    # Gone on from step 10, with a later best one of before, and a newer one of the same step.
    (tmp_path / "checkpoints/best-20-step-0000012.ckpt").unlink()
    numbered("best-20-step-0000028.ckpt", 3)
    numbered("step-0000011.ckpt", 6)
    numbered("best-19-step-0000011.ckpt", 7)
    assert found(tmp_path) == ("step-0000011.ckpt", "")
    names = [path.name[:12] for path in latest_checkpoints(tmp_path / "checkpoints")]
    assert names == [f"step-00000{step}" for step in (10, 20, 30, 11)]
    assert run_folder.next_number(tmp_path / "checkpoints") == 8
    # One that cannot be read may be the newest: it is told of.
    truncate(numbered("step-0000012.ckpt", 8))
    name, said = found(tmp_path)
    assert name == "step-0000011.ckpt" and "step-0000012.ckpt is damaged" in said


def test_a_run_goes_on_and_removes_the_oldest_with_the_clock_an_hour_back(program):
    arguments = ["--checkpoint.keep=2", "--trainer.limit_val_batches=0", "--trainer.logger=false"]
    assert program("fit", *arguments, "--trainer.max_steps=3") == 0, program.err
    folder = program.run_dir / "checkpoints"
    time = (folder / "step-0000002.ckpt").stat().st_mtime - 3600
    os.utime(folder / "step-0000003.ckpt", (time, time))
    for which, step in (("auto", 4), ("last", 5)):
        resume = [f"--ckpt_path={which}", f"--trainer.max_steps={step}"]
        assert program("fit", *arguments, *resume) == 0, program.err
        steps = [run_folder.step_of(path) for path in latest_checkpoints(folder)]
        assert steps == [step - 1, step]
        os.utime(folder / f"step-000000{step}.ckpt", (time - step, time - step))
    assert not (program.run_dir / "earlier-1").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    place = data.index(torch.full((100,), 2.0).numpy().tobytes()) + 7
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, lambda path: path.write_bytes(b""), lambda path: path.write_text("x")],
)
def test_last_falls_back_to_the_newest_good_one(tmp_path, damage):
    save(tmp_path, "step-0000001.ckpt", 1, age=10)
    damage(save(tmp_path, "step-0000002.ckpt", 2, age=5))
    name, said = found(tmp_path)
    assert name == "step-0000001.ckpt"
    assert "step-0000002.ckpt is damaged" in said and "taking step-0000001.ckpt" in said
    with pytest.raises(ValueError, match="step-0000002.ckpt is damaged"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoints/step-0000002.ckpt"))
    damage(save(tmp_path, "step-0000001.ckpt", 2, age=10))
    with pytest.raises(ValueError, match="no checkpoint in .* is complete: .* is damaged"):
        find_checkpoint(tmp_path, "last")


def test_a_foreign_file_is_refused_and_nothing_in_it_runs(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    save(tmp_path, "step-0000001.ckpt", age=5)
    torch.save({"state_dict": Malicious(), "loops": {}}, tmp_path / "checkpoints/last.ckpt")
    assert found(tmp_path)[0] == "step-0000001.ckpt"
    assert not (tmp_path / "ran").exists()
    torch.save({"model": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="foreign.ckpt is not a checkpoint of this program"):
        find_checkpoint(tmp_path, str(tmp_path / "foreign.ckpt"))
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*; there are foreign.ckpt"):
        find_checkpoint(tmp_path, str(tmp_path / "no.ckpt"))


def test_best_is_by_score(tmp_path):
    for number, score in enumerate(["-3.5", "0", "1e-05", "12.25", "7"]):
        save(tmp_path, f"best-{score}-step-000000{number}.ckpt")
    save(tmp_path, "best-12.25-step-0000009.ckpt")
    assert found(tmp_path, "best")[0] == "best-12.25-step-0000003.ckpt"
    assert found(tmp_path, "best", "min")[0] == "best--3.5-step-0000000.ckpt"
    ranked = [run_folder.score_of(p) for p in best_checkpoints(tmp_path / "checkpoints", "max")]
    assert ranked == [-3.5, 0, 1e-05, 7, 12.25, 12.25]


# Writing


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = save(tmp_path, "last.ckpt", 1)
    before = path.read_bytes()

    def full(checkpoint, file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint(content(2), path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["last.ckpt"]


def test_a_full_disk_is_named_although_torch_says_something_else(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full, a disk that is always full")
    full = contextlib.nullcontext("/dev/full")
    monkeypatch.setattr(checkpoint_io, "replacing", lambda path: full)
    with pytest.raises(OSError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint(content(1), tmp_path / "last.ckpt")


class Disk:
    """Room for checkpoints, while it is not full."""

    def __init__(self, monkeypatch):
        self.original = torch.save
        self.full_at = ()
        monkeypatch.setattr(checkpoint_io.torch, "save", self.save)

    def save(self, checkpoint, file):
        if isinstance(checkpoint, dict) and checkpoint["global_step"] in self.full_at:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        self.original(checkpoint, file)


def test_training_survives_a_full_disk(program, monkeypatch, caplog):
    disk = Disk(monkeypatch)
    disk.full_at = (2, 3)
    folder = program.run_dir / "checkpoints"
    arguments = ["--trainer.max_steps=4", "--checkpoint.keep=2", "--trainer.limit_val_batches=0"]
    with caplog.at_level(logging.ERROR, "mvsplat.checkpoints"):
        assert program("fit", *arguments) == 0, program.err
    assert [record.getMessage().split(".")[0] for record in caplog.records] == [
        f"step {step} could not be saved: [Errno 28] No space left on device" for step in (2, 3)
    ]
    assert sorted(os.listdir(folder)) == ["last.ckpt", "step-0000001.ckpt", "step-0000004.ckpt"]
    assert (folder / "last.ckpt").samefile(folder / "step-0000004.ckpt")

    # The end of a run must be saved.
    disk.full_at = (5, 6)
    assert program("fit", "--ckpt_path=last", *arguments, "--trainer.max_steps=6") == 2
    assert "error: the end of the run could not be saved: [Errno 28] No space left" in program.err
    assert found(program.run_dir)[0] == "last.ckpt"
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 4
    disk.full_at = ()
    assert program("fit", "--ckpt_path=last", *arguments, "--trainer.max_steps=6") == 0
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 6


def test_what_a_killed_run_left_unfinished_is_removed(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    folder = program.run_dir / "checkpoints"
    unfinished = folder / ".step-0000002.123.tmp.ckpt"
    unfinished.write_bytes(b"half")
    (folder / "last.ckpt").unlink()
    assert program("fit", "--ckpt_path=last", "--trainer.max_steps=1") == 0, program.err
    assert not unfinished.exists()
    assert (folder / "last.ckpt").samefile(folder / "step-0000001.ckpt")


def test_the_best_few_are_kept(program):
    arguments = ["--best_checkpoint.keep=2", "--trainer.val_check_interval=1"]
    assert program("fit", *arguments, "--trainer.max_steps=4", "--checkpoint.keep=-1") == 0
    folder = program.run_dir / "checkpoints"
    scores = [run_folder.score_of(path) for path in best_checkpoints(folder, "max")]
    assert len(scores) == 2 and scores[0] <= scores[1]
    assert len(latest_checkpoints(folder)) == 4
    assert program("fit", "--best_checkpoint.monitor=val/psnrr") == 2
    assert "no 'val/psnrr' is logged, but" in program.err and "val/psnr" in program.err


# Resuming


def test_auto_goes_on_where_it_can_and_starts_anew_otherwise(program, caplog):
    few = ["--trainer.limit_val_batches=0", "--trainer.logger=false", "--ckpt_path=auto"]
    folder = program.run_dir / "checkpoints"

    def steps():
        return [run_folder.step_of(path) for path in latest_checkpoints(folder)]

    assert program("fit", *few, "--trainer.max_steps=1") == 0, program.err
    first = weights(program)
    assert program("fit", *few, "--trainer.max_steps=2") == 0, program.err
    assert steps() == [1, 2]
    # Of another configuration: what is there is kept, and the start is as good as any.
    other = "--model.encoder.d_feature=8"
    assert program("fit", *few, "--trainer.max_steps=1", other) == 0, program.err
    assert "is not gone on from: the checkpoint is of another model" in caplog.text
    assert steps() == [1] and len(list((program.run_dir / "earlier-1/checkpoints").iterdir())) == 3
    assert program("fit", *few, "--trainer.max_steps=1") == 0, program.err
    assert_equal(first, weights(program))
    # None that is complete.
    for path in folder.iterdir():
        truncate(path)
    assert program("fit", *few, "--trainer.max_steps=1") == 0, program.err
    assert_equal(first, weights(program))
    assert len(list((program.run_dir / "earlier-3/checkpoints").iterdir())) == 2

    assert program("test", "--ckpt_path=auto") == 2
    assert "--ckpt_path auto is for fit" in program.err


def test_a_second_run_in_a_folder_is_refused(program, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)
    with folder_lock.only_training_run(program.run_dir):
        assert program("fit") == 2
        assert f"another run is being trained in {program.run_dir}" in program.err
        assert [path.name for path in program.run_dir.iterdir()] == [".training.lock"]
    assert program("fit", "--trainer.fast_dev_run=true", "--trainer.logger=false") == 0


def test_processes_that_would_go_on_from_different_checkpoints_are_refused():
    """The run folder of one may be on a disk of its own."""

    def start(mine):
        strategy = SimpleNamespace(broadcast=lambda _: "runs/a/last.ckpt")
        trainer = Mock(spec=Trainer, ckpt_path=mine, strategy=strategy, global_rank=1)
        LatestCheckpoint().on_fit_start(trainer, Mock(spec=LightningModule))

    for mine, said in (("runs/a/step-0000001.ckpt", "runs/a/step"), (None, "no checkpoint")):
        with pytest.raises(RuntimeError, match=f"process 1 goes on from {said}.*, the first one"):
            start(mine)


def weights(program, name="last"):
    return torch.load(program.checkpoint(name), weights_only=True)["state_dict"]


def assert_equal(one, two, **tolerance):
    for name in one:
        torch.testing.assert_close(one[name], two[name], **(tolerance or {"rtol": 0, "atol": 0}))


class Terminated(Callback):
    """SIGTERM comes at a batch, or in a validation.

    Args:
        batch: Number of the training batch.
        validating: Wait for the next validation.
    """

    def __init__(self, batch: int, validating: bool = False):
        self.batch = batch
        self.validating = validating
        self.reached = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.reached = batch_idx >= self.batch
        if batch_idx == self.batch and not self.validating:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if self.reached and self.validating:
            self.validating = False
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("batch", "validating", "accumulate", "step"),
    [(2, False, 1, 3), (3, False, 3, 1), (4, False, 3, 1), (1, True, 1, 2)],
)
def test_sigterm_saves_what_a_run_goes_on_from(program, batch, validating, accumulate, step):
    """Also between the batches of one step, and in a validation."""
    arguments = [
        "--trainer.max_steps=4",
        f"--trainer.accumulate_grad_batches={accumulate}",
        "--trainer.val_check_interval=2",
        "--checkpoint.every_n_steps=100",
        "--best_checkpoint.keep=0",
    ]
    assert program("fit", *arguments) == 0, program.err
    whole = weights(program)
    callback = "--trainer.callbacks=test_checkpoints.Terminated"
    more = [f"--trainer.callbacks.batch={batch}", f"--trainer.callbacks.validating={validating}"]
    assert program("fit", callback, *more, *arguments) == 0, program.err
    assert torch.load(program.checkpoint(), weights_only=True)["global_step"] == step
    assert program("fit", "--ckpt_path=last", *arguments) == 0, program.err
    assert_equal(weights(program), whole)


def test_a_run_goes_on_with_another_batch_size_and_accumulation(program):
    """Two batches of one scene a step, then one of two scenes: the same samples, the same steps."""
    arguments = ["--trainer.val_check_interval=2", "--model.optimizer=SGD"]
    arguments += ["--model.optimizer.lr=0.1", "--model.schedule=null", "--checkpoint.keep=-1"]
    alternating = ["--trainer.accumulate_grad_batches=2"]
    together = ["--data.train_loader.batch_size=2"]
    assert program("fit", "--trainer.max_steps=4", *arguments, *alternating) == 0, program.err
    middle, whole = (weights(program, f"step-000000{step}") for step in (2, 4))
    half = program.checkpoint("step-0000002")
    resumed = [f"--ckpt_path={half}", "--trainer.max_steps=4"]
    assert program("fit", *resumed, *arguments, *together) == 0, program.err
    other = weights(program)
    moved = sum(float((whole[name] - middle[name]).square().sum()) for name in whole) ** 0.5
    apart = sum(float((whole[name] - other[name]).square().sum()) for name in whole) ** 0.5
    assert apart < 1e-4 * moved
    assert torch.load(program.checkpoint(), weights_only=True)["SceneDataModule"]["position"] == 8


def test_a_resumed_run_takes_the_learning_rate_that_is_configured(program):
    assert program("fit", "--trainer.max_steps=2", "--model.schedule.warmup_fraction=0") == 0
    before = torch.load(program.checkpoint(), weights_only=True)
    arguments = ["--ckpt_path=last", "--model.schedule.warmup_fraction=0"]
    arguments += ["--trainer.max_steps=3", "--model.optimizer.lr=1e-5"]
    assert program("fit", *arguments, "--model.optimizer.betas=[0.8, 0.9]") == 0, program.err
    after = torch.load(program.checkpoint(), weights_only=True)
    (group,) = after["optimizer_states"][0]["param_groups"]
    assert group["initial_lr"] == 1e-5 and 0 < group["lr"] <= 1e-5
    assert list(group["betas"]) == [0.8, 0.9]
    moved = max(
        float((after["state_dict"][name] - weight).abs().max())
        for name, weight in before["state_dict"].items()
    )
    assert 0 < moved < 1e-4  # a few times the learning rate, which was 2e-4
    assert (
        program("fit", "--ckpt_path=last", "--model.optimizer=SGD", "--model.optimizer.lr=1") == 2
    )
    assert "error: the checkpoint's optimizer is no SGD" in program.err


def counts(done, completed=None):
    names = ("ready", "started", "processed")
    return dict.fromkeys(names, done) | {"completed": done if completed is None else completed}


@pytest.mark.parametrize(
    ("before", "after", "current", "expected"),
    [
        (3, 3, counts(6, 5), counts(6, 5)),  # saved at the end of a step, before its hooks ended
        (3, 3, counts(7, 6), counts(6)),
        (3, 3, counts(8), counts(6)),
        (3, 2, counts(6, 5), counts(4, 3)),
        (1, 4, counts(5), counts(20)),
        (3, 2, counts(8, 7), counts(4)),
        (1, 1, counts(5) | {"ready": 6, "started": 6}, counts(5)),  # an error in the next batch
        (3, 2, counts(6) | {"ready": 7}, counts(4)),
    ],
)
def test_counts_of_batches_become_whole_steps(before, after, current, expected):
    progress = {"current": current, "is_last_batch": False}
    progress["total"] = {name: count + 100 for name, count in current.items()}
    loops = {"fit_loop": {"epoch_loop.batch_progress": progress}}
    rewind_to_step({"accumulate_grad_batches": before, "loops": loops}, after)
    assert progress["current"] == expected
    assert progress["total"] == {name: count + 100 for name, count in expected.items()}


def test_an_error_in_an_epochs_last_batch_is_no_epochs_end():
    interrupted = counts(4) | {"ready": 5, "started": 5}
    progress = {"current": interrupted, "total": dict(interrupted), "is_last_batch": True}
    checkpoint = {"accumulate_grad_batches": 3, "loops": {}}
    checkpoint["loops"]["fit_loop"] = {"epoch_loop.batch_progress": progress}
    rewind_to_step(checkpoint, 3)
    assert progress == {"current": counts(3), "total": counts(3), "is_last_batch": False}
