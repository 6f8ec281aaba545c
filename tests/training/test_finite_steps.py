"""Steps with a loss or gradient that is not finite change nothing, and are counted."""

import logging

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader
from toy_model import make_batch

from mvsplat.training.finite_steps import FiniteSteps

NAN, INFINITE, BAD_GRADIENT = "nan", "infinite", "bad gradient"


class Walker(LightningModule):
    """Its weight goes down by 1 in every batch, with what is wrong with some of the batches."""

    def __init__(self, wrong=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.other = torch.nn.Parameter(torch.zeros(()))
        self.wrong = wrong or {}
        self.path = []

    def training_step(self, batch, batch_idx):
        loss = self.weight + 0 * self.other
        problem = self.wrong.get(batch_idx)
        if problem in (NAN, INFINITE):
            loss = loss * float(problem if problem == NAN else "inf")
        if problem == BAD_GRADIENT:
            loss = loss + (self.other * 0).sqrt()
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.path.append(self.weight.item())

    def configure_optimizers(self):
        # With momentum and decay a step of zero gradient would not be no step.
        return torch.optim.SGD(self.parameters(), 1.0, momentum=0.5)


def fit(model, steps=6, stop_after=20, guard=None, **options):
    guard = guard or FiniteSteps(stop_after)
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "max_epochs": 1}
    settings |= {"enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "callbacks": [guard]}
    trainer = Trainer(**settings | options)
    batches = [make_batch(number) for number in range(steps)]
    trainer.fit(model, DataLoader(batches, batch_size=None))
    return guard, trainer


def momentum_path(good, speed=1.0):
    """Where the weight is after every step, of which some are good."""
    weight = velocity = 0.0
    path = []
    for step in good:
        if step:
            velocity = 0.5 * velocity + speed
            weight -= velocity
        path.append(weight)
    return path


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("problem", [NAN, INFINITE, BAD_GRADIENT])
def test_a_bad_step_is_as_if_it_had_not_been(problem, precision, caplog):
    model = Walker({2: problem, 3: problem})
    with caplog.at_level(logging.WARNING, "mvsplat.training"):
        guard, trainer = fit(model, precision=precision)
    assert model.path == pytest.approx(momentum_path([1, 1, 0, 0, 1, 1]))
    assert (guard.total, guard.in_a_row) == (2, 0) and trainer.global_step == 6
    assert trainer.callback_metrics["train/skipped_steps"] == 2
    what = "gradient" if problem == BAD_GRADIENT else "loss"
    assert [record.getMessage() for record in caplog.records] == [
        f"step 2 is skipped: its {what} is not finite; scenes: scene/2 (1 skipped, 1 in a row)",
        f"step 3 is skipped: its {what} is not finite; scenes: scene/3 (2 skipped, 2 in a row)",
    ]


@pytest.mark.parametrize(
    ("problem", "named"), [(NAN, ["scene/3"]), (BAD_GRADIENT, ["scene/2", "scene/3"])]
)
def test_one_bad_batch_spoils_the_step_it_is_accumulated_in(problem, named, caplog):
    model = Walker({3: problem})
    guard, _ = fit(model, accumulate_grad_batches=2, gradient_clip_val=10.0)
    assert model.path[1::2] == pytest.approx(momentum_path([1, 0, 1]))
    assert guard.total == 1
    assert f"scenes: {', '.join(named)} (1 skipped, 1 in a row)" in caplog.text


def test_too_many_in_a_row_end_the_run():
    model = Walker(dict.fromkeys([1, 3, 4, 5], NAN))
    with pytest.raises(RuntimeError, match=r"3 steps in a row .* step 5 .* scene/5\. The last"):
        fit(model, steps=9, stop_after=3)
    assert model.path == pytest.approx(momentum_path([1, 0, 1, 0, 0]))
    fit(Walker(dict.fromkeys(range(9), NAN)), steps=9, stop_after=0)  # never
    with pytest.raises(ValueError, match="stop_after"):
        FiniteSteps(-1)


def test_the_count_goes_on_after_a_resume():
    guard, _ = fit(Walker({1: NAN, 5: NAN}))
    resumed = FiniteSteps(2)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(RuntimeError, match="2 steps in a row"):
        fit(Walker({0: NAN}), guard=resumed)
    assert resumed.total == 3


def test_overflow_is_left_to_the_loss_scaling_until_that_is_not_to_blame():
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model = Walker(dict.fromkeys(range(1, 6), BAD_GRADIENT))
    guard, _ = fit(model, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert model.path == pytest.approx(momentum_path([1, 0, 0, 0, 0, 0]))
    assert scaler.get_scale() < 1
    # At scales 4 and 2 the scaling may be at fault; at 1, 1/2 and 1/4 it is not.
    assert guard.total == guard.in_a_row == 3
    model = Walker({1: NAN})
    guard, _ = fit(model, plugins=MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu")))
    assert guard.total == 1
    assert model.path == pytest.approx(momentum_path([1, 0, 1, 1, 1, 1]))
