"""Averaged weights: what they are, where they are used, and that nothing that ends a run harms."""

import shutil
import signal

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_endings import Broken, fails, sends
from test_resume import assert_same_run, differences

from mvsplat import load_model
from mvsplat.training.averaging import WeightAveraging
from mvsplat.training.resuming import TRAINED

DECAY = 0.6
RUN = [
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.logger=false",
    "--model.schedule=null",
    "--best_checkpoint.keep=-1",
    "--images.scenes=0",
]
ON = [f"--averaging.decay={DECAY}"]


class Watcher(Callback):
    """Keeps the encoder's weights after each step, and those that are validated."""

    trained: list[dict] = []
    validated: list[dict] = []

    @staticmethod
    def weights(pl_module):
        return {name: p.detach().clone() for name, p in pl_module.encoder.named_parameters()}

    def on_train_start(self, trainer, pl_module):
        Watcher.trained, Watcher.validated = [self.weights(pl_module)], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained.append(self.weights(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            self.validated.append(self.weights(pl_module))


def average(steps: list[dict], decay: float) -> dict:
    """The average of the weights before training and after each step, in float64."""
    result = {name: start.double() for name, start in steps[0].items()}
    for n, weights in enumerate(steps[1:]):
        kept = min(decay, (1 + n) / (10 + n))
        result = {
            name: kept * result[name] + (1 - kept) * weights[name].double() for name in result
        }
    return result


def assert_close(weights, expected):
    for name, value in expected.items():
        torch.testing.assert_close(weights[name].double(), value, rtol=1e-5, atol=1e-6)


def state(program, name="last"):
    return torch.load(program.checkpoint(name), weights_only=True)


@pytest.fixture(scope="module")
def kept():
    """What the undisturbed run has left, which runs once."""
    return {}


@pytest.fixture
def whole(program, kept):
    if not kept:
        assert program("fit", *RUN, *ON) == 0, program.err
        kept["last"] = state(program)
        shutil.rmtree(program.run_dir)
    return kept["last"]


def test_averages_are_what_is_validated_saved_and_loaded(program):
    watch = f"--trainer.callbacks={__name__}.Watcher"
    assert program("fit", *RUN, watch) == 0, program.err
    plain = state(program)["state_dict"]
    assert TRAINED not in state(program)

    assert program("fit", *RUN, *ON, watch) == 0, program.err
    steps = Watcher.trained
    assert len(steps) == 5
    expected = average(steps, DECAY)
    saved = state(program)
    encoder = dict(load_model(program.checkpoint()).encoder.named_parameters())
    assert_close(encoder, expected)
    moved = [name for name in expected if (steps[-1][name] - expected[name]).abs().max() > 1e-5]
    assert len(moved) > len(expected) / 2  # or nothing would have been seen above
    assert len(Watcher.validated) == 2
    assert_close(Watcher.validated[0], average(steps[:3], DECAY))
    assert_close(Watcher.validated[1], expected)
    best = sorted(program.checkpoint().parent.glob("best-*-step-0000002.ckpt"))
    assert_close(dict(load_model(best[0]).encoder.named_parameters()), average(steps[:3], DECAY))
    # Training does not know of it.
    assert not differences(plain, saved["state_dict"] | saved[TRAINED])

    # A test, and a new run from these weights, begin with the averages.
    begin = [f"--model.weights={program.checkpoint()}", "--trainer.max_steps=1", watch]
    assert program("fit", *RUN, *begin, "--run_dir", program.run_dir.parent / "next") == 0
    assert_close(Watcher.trained[0], expected)


@pytest.mark.parametrize(
    "ending",
    [
        sends(signal.SIGTERM, batch=1, validating=True),
        fails("on_train_batch_end", 3),
        ["--trainer.max_steps=3", "--checkpoint.every_n_steps=2"],
    ],
    ids=["stopped in a validation", "another callback fails", "ended, and then more"],
)
def test_a_run_goes_on_as_if_nothing_had_ended_it(program, whole, ending):
    if "Fails" in ending[0]:
        with pytest.raises(Broken):
            program("fit", *RUN, *ON, *ending)
    else:
        assert program("fit", *RUN, *ON, *ending) == 0, program.err
    assert 2 <= state(program)["global_step"] < 4
    assert program("fit", *RUN, *ON, "--ckpt_path=last") == 0, program.err
    assert_same_run(whole, state(program))


def test_averages_may_begin_and_end_at_a_resume(program, whole):
    assert program("fit", *RUN, *ON, "--trainer.max_steps=2") == 0, program.err
    assert program("fit", *RUN, "--ckpt_path=last") == 0, program.err
    without = state(program)
    assert TRAINED not in without
    assert not differences(whole["state_dict"] | whole[TRAINED], without["state_dict"])
    assert program("fit", *RUN, *ON, "--ckpt_path=last", "--trainer.max_steps=5") == 0, program.err
    assert state(program)["callbacks"]["WeightAveraging"] == {"updates": 1}


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="between 0 and 1"):
        WeightAveraging(decay)
