"""Whatever ends a run, its last complete optimizer step is saved, and it goes on from there."""

import logging
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from processes import assert_all_end
from test_resume import Runs, assert_same_run, differences

from mvsplat.data.loading.loaders import ExampleBatches
from mvsplat.losses import Loss


class Broken(Exception):
    """What no part of the program expects."""


class Fails(Callback):
    """Raises in one of Lightning's hooks.

    Args:
        hook: Its name.
        batch: So many training batches have been begun, over all that was resumed.
        interrupt: Whether it raises as Ctrl-C does by itself.
    """

    def __init__(self, hook: str, batch: int, interrupt: bool = False):
        def fail(trainer, *_):
            if trainer.fit_loop.epoch_loop.batch_progress.total.ready == batch:
                raise KeyboardInterrupt if interrupt else Broken(f"broken {hook}")

        setattr(self, hook, fail)


class Signals(Callback):
    """Sends signals to this process, at once or in the next validation.

    Args:
        batch: Number of the training batch.
        signals: Which.
        validating: Wait for the next validation.
        group: Send them to all processes of the group, as a terminal does.
    """

    def __init__(self, batch: int, signals: list[int], validating: bool = False, group=False):
        self.batch = batch
        self.signals = signals
        self.validating = validating
        self.send = os.killpg if group else os.kill
        self.reached = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.reached = batch_idx == self.batch
        if not self.validating:
            self._send()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._send()

    def _send(self):
        if self.reached:
            self.reached = False
            for number in self.signals:
                self.send(os.getpid(), number)
                time.sleep(0.5)  # the workers may act on it before this process does


class NotFinite(Loss):
    """Adds nothing, but is NaN from some batch on.

    Args:
        first: That batch.
        weight: Factor of this term in the sum.
    """

    def __init__(self, first: int, weight: float = 1.0):
        super().__init__(weight)
        self.left = first

    def forward(self, rendering, batch, gaussians):
        self.left -= 1
        return rendering.color.sum() * (torch.nan if self.left < 0 else 0)


class SpoilsWeights(Callback):
    """Makes weights NaN in the third step's batch and fails."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            next(pl_module.parameters()).data.fill_(torch.nan)
            raise Broken("spoiled")


class BreaksInStep(torch.optim.SGD):
    """Fails in its third step when some weights have changed."""

    steps = 0

    def step(self, closure=None):
        loss = super().step(closure)
        type(self).steps += 1
        if self.steps == 3:
            raise Broken("in the middle of a step")
        return loss


LONG = ["--checkpoint.every_n_steps=100", "--best_checkpoint.keep=0", "--trainer.logger=false"]


def fails(hook, batch, **more):
    options = {"hook": hook, "batch": batch} | more
    return [f"--trainer.callbacks={__name__}.Fails"] + [
        f"--trainer.callbacks.{name}={value}" for name, value in options.items()
    ]


def sends(*signals, **options):
    options["signals"] = [int(number) for number in signals]
    return [f"--trainer.callbacks={__name__}.Signals"] + [
        f"--trainer.callbacks.{name}={value}" for name, value in options.items()
    ]


def state(program, name="last"):
    return torch.load(program.checkpoint(name), weights_only=True)


@pytest.fixture(scope="module")
def states() -> dict[tuple[str, ...], dict]:
    """What runs that nothing ended have left, by their options."""
    return {}


@pytest.fixture
def whole(program, states):
    """What a run with some options leaves when nothing ends it; runs once for the module."""

    def state_of(*options: str) -> dict:
        if options not in states:
            assert program("fit", *options) == 0, program.err
            states[options] = state(program)
            shutil.rmtree(program.run_dir)
        return states[options]

    return state_of


def break_loader(monkeypatch, after):
    """The loader fails after so many batches, in whatever process it runs."""
    original, made = ExampleBatches.__getitem__, []

    def get(self, requests):
        made.append(requests)
        if len(made) > after:
            raise Broken("broken loader")
        return original(self, requests)

    monkeypatch.setattr(ExampleBatches, "__getitem__", get)


def test_an_error_anywhere_saves_the_last_complete_step(program, whole):
    """Two batches a step: a run fails again and again, and ends with the bits of a whole one."""
    common = [*LONG, "--trainer.max_steps=8", "--trainer.accumulate_grad_batches=2"]
    common += ["--trainer.val_check_interval=2", "--data.val_scenes=1"]
    resume = []
    for step, failing in [
        (1, fails("on_train_batch_start", 3)),
        (2, fails("on_before_backward", 6)),  # the second batch of the third step
        (3, fails("on_before_optimizer_step", 8)),
        (4, fails("on_train_batch_end", 8)),  # after the step, before its hooks have ended
        (5, fails("on_after_backward", 11)),
        (6, fails("on_validation_batch_start", 12)),
        (7, fails("on_train_batch_end", 15, interrupt=True)),
    ]:
        if "interrupt" in failing[-1]:
            assert program("fit", *common, *resume, *failing) == 1
        else:
            with pytest.raises(Broken):
                program("fit", *common, *resume, *failing)
        assert state(program)["global_step"] == step, failing
        resume = ["--ckpt_path=last"]
    assert program("fit", *common, *resume) == 0, program.err
    assert_same_run(state(program), whole(*common))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_loader_costs_nothing(program, whole, monkeypatch, workers):
    plain = [*LONG, "--trainer.max_steps=4"]
    common = [*plain, f"--data.train_loader.num_workers={workers}"]
    with monkeypatch.context() as patched:
        break_loader(patched, after=3)
        with pytest.raises(Broken, match="broken loader"):
            program("fit", *common, "--data.val_loader.num_workers=0")
    assert 1 <= state(program)["global_step"] <= 3
    assert program("fit", *common, "--ckpt_path=last") == 0, program.err
    assert_same_run(state(program), whole(*plain))  # whatever the workers


class KillsWorkers(Callback):
    """What the kernel does where memory runs out."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()


def test_a_killed_worker_costs_nothing_and_is_named(program, whole):
    plain = [*LONG, "--trainer.max_steps=4"]
    common = [*plain, "--data.train_loader.num_workers=1"]
    assert program("fit", *common, f"--trainer.callbacks={__name__}.KillsWorkers") == 2
    assert "error: DataLoader worker (pid" in program.err and "memory runs out" in program.err
    assert len(program.err.strip().splitlines()[-1]) < 400
    assert 2 <= state(program)["global_step"] <= 3  # a batch may have been ready
    assert program("fit", *common, "--ckpt_path=last") == 0, program.err
    assert_same_run(state(program), whole(*plain))


def test_skipped_steps_are_saved_like_others(program):
    skipping = [f"--model.losses.bad={__name__}.NotFinite", "--model.losses.bad.first=2"]
    common = [*skipping, "--checkpoint.keep=-1", "--trainer.val_check_interval=4"]
    common += ["--model.schedule=null"]  # which would depend on max_steps
    assert program("fit", *common, "--trainer.max_steps=4") == 0, program.err
    good, last = state(program, "step-0000002"), state(program)
    assert last["global_step"] == 4 and last["callbacks"]["FiniteSteps"]["in_a_row"] == 2
    assert not differences(good["state_dict"], last["state_dict"])
    assert list(program.run_dir.glob("checkpoints/best-*-step-0000004.ckpt"))

    limit = ["--trainer.max_steps=9", "--finite_steps.stop_after=3", *LONG]
    assert program("fit", *common, *limit) == 2
    assert "3 steps in a row are not finite" in program.err
    last = state(program)
    assert not differences(good["state_dict"], last["state_dict"])
    # The third of them is not complete, and will be tried again.
    assert last["global_step"] == 4 and last["callbacks"]["FiniteSteps"]["total"] == 2
    healed = ["--model.losses.bad.first=99", "--ckpt_path=last", "--trainer.max_steps=5"]
    assert program("fit", *common, *limit, *healed) == 0, program.err
    last = state(program)
    assert last["global_step"] == 5
    assert last["callbacks"]["FiniteSteps"] == {"total": 2, "in_a_row": 0}

    told = ["--trainer.max_steps=9", *LONG, *sends(signal.SIGTERM, batch=3)]
    assert program("fit", *common, *told) == 0, program.err
    assert state(program)["global_step"] == 4


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (f"--trainer.callbacks={__name__}.SpoilsWeights", "weights are not finite"),
        (f"--model.optimizer={__name__}.BreaksInStep", "the next one has changed the weights"),
    ],
)
def test_what_is_no_complete_step_is_not_saved(program, caplog, monkeypatch, option, said):
    monkeypatch.setattr(BreaksInStep, "steps", 0)
    with caplog.at_level(logging.WARNING, "mvsplat.checkpoints"):
        with pytest.raises(Broken):
            program("fit", "--trainer.max_steps=4", "--model.optimizer.lr=0.01", *LONG, option)
    assert f"step 2 is not saved: {said}" in caplog.text
    assert not program.checkpoint().exists()


@pytest.mark.parametrize(
    ("batch", "validating", "accumulate", "step"),
    [(2, False, 1, 3), (3, False, 3, 1), (1, True, 1, 2)],
)
def test_ctrl_c_saves_what_a_run_goes_on_from(program, whole, batch, validating, accumulate, step):
    common = [*LONG, "--trainer.max_steps=4", "--trainer.val_check_interval=2"]
    common += [f"--trainer.accumulate_grad_batches={accumulate}"]
    pressed = sends(signal.SIGINT, batch=batch, validating=validating)
    assert program("fit", *common, *pressed) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert state(program)["global_step"] == step
    assert program("fit", "--ckpt_path=last", *common) == 0, program.err
    assert_same_run(state(program), whole(*common))


WORKERS = ["--data.train_loader.num_workers=2", "--data.train_loader.multiprocessing_context=fork"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signals_to_all_processes_end_a_run_as_those_to_one(tmp_path, scenes_root, number, code):
    """As a terminal, or a cluster's scheduler, sends them: loader workers get them, too."""
    runs = Runs(tmp_path, scenes_root)
    arguments = [*LONG, *WORKERS, "--trainer.max_steps=50", *sends(number, batch=2, group=True)]
    process = runs.start("run", arguments)
    process.join(200)
    assert process.exitcode == code, runs.log("run")
    assert runs.state("run")["global_step"] == 3
    assert_all_end(group=process.pid)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path, scenes_root):
    runs = Runs(tmp_path, scenes_root)
    pressed = sends(signal.SIGINT, signal.SIGINT, batch=2, group=True)
    assert runs.finish("run", [*LONG, *WORKERS, *pressed, "--trainer.max_steps=50"]) == -2
    assert "Ctrl-C: training ends after this batch" in runs.log("run")
    assert not list(runs.checkpoints("run").glob("*.ckpt"))
