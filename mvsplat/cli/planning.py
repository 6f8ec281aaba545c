"""``fit --plan``: what a training will take, with nothing written into its folder."""

from argparse import SUPPRESS
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from mvsplat.data.data_module import SceneDataModule
from mvsplat.model import MVSplat
from mvsplat.training.plan import STEPS, Plan, PlannedData

_SETTINGS: dict[str, Any] = {
    "callbacks": None,
    "check_val_every_n_epoch": 1,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "fast_dev_run": False,
    "limit_val_batches": 0,
    "logger": False,
    "max_epochs": -1,
    "max_steps": STEPS,
    "num_sanity_val_steps": 0,
    "val_check_interval": 1.0,
}
"""Of a trainer that takes a few steps and leaves nothing behind."""


def add_option(parser: LightningArgumentParser) -> None:
    """Let ``fit`` plan."""
    parser.add_argument(
        "--plan",
        action="store_true",
        default=SUPPRESS,  # no other command knows it: it is not to be in configurations
        help="Only say what the training will take: parameters, memory of a step, scenes, epochs "
        f"and hours, after {STEPS} steps. Nothing is written into the run folder; scenes that the "
        "data source generates are.",
    )


def only_a_few_steps(config: Namespace) -> None:
    """Change the trainer's settings to those of a plan."""
    for name, value in _SETTINGS.items():
        config["trainer"][name] = value


def make_plan(
    trainer: Trainer, model: MVSplat, data: SceneDataModule, steps: int, done: int
) -> None:
    """Take a few steps and say what it would be to take all, with ``done`` that are taken."""
    planned = PlannedData(data, trainer.accumulate_grad_batches, _largest_shape(data))
    plan = Plan(planned, data.loaders["train"].batch_size, steps, done)
    trainer.callbacks.append(plan)  # type: ignore[attr-defined]
    trainer.fit(model, datamodule=planned)


def _largest_shape(data: SceneDataModule) -> tuple[int, int] | None:
    """Height and width of the largest pictures of training; None where only they tell."""
    if data.datasets["train"] is not None:
        return None
    shapes = list(data.train_shapes.shapes if data.train_shapes else [data.settings.image_shape])
    if data.mixture is not None:
        shapes += [part.image_shape for part in data.mixture.parts.values() if part.image_shape]
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    return height, width
