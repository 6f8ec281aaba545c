"""What else one wants to see of a training run: the gradient's size, and waiting for data."""

from collections import deque
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from mvsplat.private_names import norms_of


class TrainingMonitor(Callback):
    """Logs the gradient's norm and how long training waits for data.

    ``train/gradient_norm`` is the norm of all gradients before clipping. ``train/data_wait`` and
    ``train/batch_time`` are seconds a batch, means over the steps since the last line of the log:
    a run that waits for a good part of the time wants more ``data.train_loader.num_workers``.

    Args:
        gradient_norm: Log the gradient's norm.
        data_wait: Log the times.
    """

    def __init__(self, gradient_norm: bool = True, data_wait: bool = True):
        self.gradient_norm = gradient_norm
        self.data_wait = data_wait
        # Of each of the latest batches: seconds waited, seconds in all.
        self._times: deque[tuple[float, float]] = deque()
        self._begin = 0.0
        self._previous_end: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        length = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        self._times = deque(maxlen=length)
        self._previous_end = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begin = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        end = perf_counter()
        if self.data_wait and self._previous_end is not None:
            self._times.append((self._begin - self._previous_end, end - self._previous_end))
            waited, whole = zip(*self._times, strict=True)
            pl_module.log("train/data_wait", fmean(waited), batch_size=1)
            pl_module.log("train/batch_time", fmean(whole), batch_size=1)
        self._previous_end = end

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous_end = None  # what comes before the next batch is no waiting for data

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._previous_end = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if self.gradient_norm and gradients:
            norms = torch.stack(norms_of(gradients))
            pl_module.log("train/gradient_norm", norms.norm(), batch_size=1)
