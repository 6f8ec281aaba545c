"""Pictures of training and validation, in the loggers that take some and in the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch import Tensor

from mvsplat.evaluation.overview import Row, overview_row
from mvsplat.export.images import save_png, sheet
from mvsplat.types import Batch, Gaussians, Rendering

FOLDER = "images"
"""Name of the folder in a run folder."""


class ImageLogger(Callback):
    """Shows what the model makes of some scenes while it is trained.

    Side by side: context views, target view, its rendering, error and depth, the first view's
    estimated depth and confidence, Gaussians and cameras from above. Pictures go to TensorBoard,
    Weights & Biases and MLflow, histograms to TensorBoard, as far as these are among the loggers;
    pictures of validations also become ``images/validation_step_*.png`` in the run folder.

    Args:
        every_n_steps: Optimizer steps between two pictures of training; 0 turns them off.
        scenes: How many scenes a picture shows; 0 turns all pictures and histograms off.
        histograms: With a picture, also log how depths and opacities are distributed in its scenes.
    """

    def __init__(self, every_n_steps: int = 500, scenes: int = 4, histograms: bool = True):
        self.every_n_steps = every_n_steps
        self.scenes = scenes
        self.histograms = histograms
        self._rows: list[Row] = []
        self._values: list[dict[str, Tensor]] = []
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
        if trainer.is_global_zero and self.scenes and any(map(_takes_pictures, trainer.loggers)):
            rows, values = self._look(outputs, batch, self.scenes)
            self._log(trainer, "train", rows, values)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        missing = self.scenes - len(self._rows)
        if trainer.is_global_zero and not trainer.sanity_checking and missing > 0:
            rows, values = self._look(outputs, batch, missing)
            self._rows += rows
            self._values += values

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._rows or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        picture = self._log(trainer, "val", self._rows, self._values)
        self._rows, self._values = [], []
        # Outside of fit the number of steps is not known.
        fitting = trainer.state.fn == TrainerFn.FITTING
        name = f"validation_step_{trainer.global_step:07d}" if fitting else "validation"
        save_png(picture, Path(trainer.default_root_dir) / FOLDER / f"{name}.png")

    @staticmethod
    def _look(outputs: Any, batch: Batch, count: int) -> tuple[list[Row], list[dict[str, Tensor]]]:
        """A row of pictures and the values for the histograms, of some scenes of a batch."""
        gaussians, rendering = outputs["gaussians"], outputs["rendering"]
        scenes = range(min(count, len(batch.scene)))
        rows = [overview_row(batch, scene, gaussians, rendering) for scene in scenes]
        return rows, [_distributions(gaussians, rendering, scene) for scene in scenes]

    def _log(
        self, trainer: Trainer, stage: str, rows: list[Row], values: list[dict[str, Tensor]]
    ) -> Image.Image:
        picture, step = sheet(rows), trainer.global_step
        loggers: list[Any] = [logger for logger in trainer.loggers if _takes_pictures(logger)]
        for logger in loggers:
            _show(logger, f"{stage}/pictures", picture, step)
            for name in values[0] if self.histograms and _is_tensorboard(logger) else ():
                joined = torch.cat([of_scene[name] for of_scene in values])
                if len(joined):
                    logger.experiment.add_histogram(f"{stage}/{name}", joined.numpy(), step)
        return picture


def _distributions(gaussians: Gaussians, rendering: Rendering, scene: int) -> dict[str, Tensor]:
    """Depths of the context pixels (else of the rendering) and opacities, the finite ones."""
    if gaussians.estimate is not None:
        depth = gaussians.estimate.depth[scene]
    else:
        depth = rendering.depth[scene]
    values = {"depths": depth, "opacities": gaussians.opacities[scene]}
    flat = {name: value.detach().float().flatten().cpu() for name, value in values.items()}
    return {name: value[value.isfinite()] for name, value in flat.items()}


def _takes_pictures(logger: Any) -> bool:
    is_known = isinstance(logger, MLFlowLogger) or hasattr(logger, "log_image")
    return is_known or _is_tensorboard(logger)


def _is_tensorboard(logger: Any) -> bool:
    """Whether a logger has a writer like TensorBoard's."""
    return hasattr(getattr(logger, "experiment", None), "add_image")


def _show(logger: Any, name: str, picture: Image.Image, step: int) -> None:
    if isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, f"{name}_{step:07d}.png")
    elif hasattr(logger, "log_image"):  # as WandbLogger has it
        logger.log_image(name, [picture], step=step)
    else:
        array = np.asarray(picture)
        logger.experiment.add_image(name, array, step, dataformats="HWC")
