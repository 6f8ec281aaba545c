"""Pictures of training and validation, in TensorBoard and in the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from mvsplat.callbacks.pictures import Row, overview_row
from mvsplat.export.images import save_png, sheet
from mvsplat.types import Batch

FOLDER = "images"
"""Name of the folder in a run folder."""


class ImageLogger(Callback):
    """Shows context, target, rendering, error and depth side by side while a model is trained.

    Pictures go to TensorBoard, if it is the logger; those of validations also become
    ``images/validation_step_*.png`` in the run folder.

    Args:
        every_n_steps: Optimizer steps between two pictures of training; 0 turns them off.
        scenes: How many scenes a picture shows; 0 turns all pictures off.
    """

    def __init__(self, every_n_steps: int = 500, scenes: int = 4):
        self.every_n_steps = every_n_steps
        self.scenes = scenes
        self._validation_rows: list[Row] = []
        self._last_step = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        # With gradient accumulation several batches end at the same step.
        if not self.every_n_steps or step % self.every_n_steps or step == self._last_step:
            return
        self._last_step = step
        if trainer.is_global_zero and _image_writers(trainer):
            _log(trainer, "train/pictures", self._rows(outputs, batch, self.scenes))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        missing = self.scenes - len(self._validation_rows)
        if trainer.is_global_zero and not trainer.sanity_checking and missing > 0:
            self._validation_rows += self._rows(outputs, batch, missing)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._validation_rows or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        picture = _log(trainer, "val/pictures", self._validation_rows)
        self._validation_rows = []
        # Outside of fit the number of steps is not known.
        fitting = trainer.state.fn == TrainerFn.FITTING
        name = f"validation_step_{trainer.global_step:07d}" if fitting else "validation"
        save_png(picture, Path(trainer.default_root_dir) / FOLDER / f"{name}.png")

    @staticmethod
    def _rows(outputs: Any, batch: Batch, count: int) -> list[Row]:
        return [
            overview_row(batch, scene, outputs["gaussians"], outputs["rendering"])
            for scene in range(min(count, len(batch.scene)))
        ]


def _image_writers(trainer: Trainer) -> list[Any]:
    """TensorBoard's writers among the loggers."""
    experiments = (getattr(logger, "experiment", None) for logger in trainer.loggers)
    return [experiment for experiment in experiments if hasattr(experiment, "add_image")]


def _log(trainer: Trainer, name: str, rows: list[Row]) -> Image.Image:
    picture = sheet(rows)
    for writer in _image_writers(trainer):
        writer.add_image(name, np.asarray(picture), trainer.global_step, dataformats="HWC")
    return picture
