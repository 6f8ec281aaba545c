"""What else one wants to see of a training run: speed, the wait for data, the gradient's size."""

from collections import deque
from collections.abc import Sequence
from statistics import fmean
from time import perf_counter
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from mvsplat.private_names import norms
from mvsplat.progress import time_left
from mvsplat.training.flops import FlopCounter, peak_flops
from mvsplat.training.memory import peak_memory
from mvsplat.types import Batch

GIGA, TERA = 1e9, 1e12


class TimedBatch(NamedTuple):
    """A batch of training and what it took: seconds of waiting, seconds in all, operations."""

    waited: float
    whole: float
    scenes: int
    pixels: int
    flops: int | None


class TrainingMonitor(Callback):
    """Logs how fast training is, how long it waits for data, and the gradient's norm.

    Speeds are means over the steps since the last line of the log, without validations and the
    writing of checkpoints, over all processes: ``train/scenes_per_second``,
    ``train/target_pixels_per_second`` and ``train/step_time``, seconds an optimizer step.
    ``train/peak_memory`` is in gigabytes, the GPU's or, on a CPU, the process's;
    ``train/hours_left`` counts everything so far, validations too.

    ``train/data_wait`` and ``train/batch_time`` are seconds a batch: a run that waits for a good
    part of the time wants more ``data.train_loader.num_workers``.

    ``train/tflops_per_second`` is what one device computes, in 10^12 floating point operations of
    products, convolutions and attention (the rasterizer's are not known), counted in the first
    batch of each shape; ``train/peak_share`` is its share of what the device is sold for, where
    that is known.

    ``train/gradient_norm`` is the norm of all gradients before clipping.

    Args:
        gradient_norm: Log the gradient's norm.
        data_wait: Log the waiting and the time a batch.
        speed: Log speeds, memory and the time left.
        flops: Count floating point operations, and log how many there are in a second.
    """

    def __init__(
        self,
        gradient_norm: bool = True,
        data_wait: bool = True,
        speed: bool = True,
        flops: bool = True,
    ):
        self.gradient_norm = gradient_norm
        self.data_wait = data_wait
        self.speed = speed
        self.flops = flops
        self._latest: deque[TimedBatch] = deque()
        self._begin = self._start = 0.0
        self._first_step = 0
        self._previous_end: float | None = None
        self._counter = FlopCounter()
        self._counted: int | None = None
        self._flops_of: dict[tuple[torch.Size, ...], int] = {}
        self._peak: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        self._latest = deque(maxlen=steps * trainer.accumulate_grad_batches)
        self._previous_end = None
        self._start, self._first_step = perf_counter(), trainer.global_step
        self._peak = peak_flops(trainer.strategy.root_device, str(trainer.precision))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begin, self._counted = perf_counter(), None
        if self.flops and isinstance(batch, Batch) and _shapes(batch) not in self._flops_of:
            self._counter.start()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._counted = self._counter.stop()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        end = perf_counter()
        if isinstance(batch, Batch):
            self._take(batch, end)
        if self._latest:
            self._log(trainer, pl_module)
        self._previous_end = end

    def _take(self, batch: Batch, end: float) -> None:
        """Remember what a batch took, if that is known."""
        shapes = _shapes(batch)
        if self._counted is not None:
            self._flops_of[shapes] = self._counted
        if self._previous_end is None:
            return
        scenes, views, _, height, width = batch.target.image.shape
        self._latest.append(
            TimedBatch(
                waited=self._begin - self._previous_end,
                whole=end - self._previous_end,
                scenes=scenes,
                pixels=scenes * views * height * width,
                flops=self._flops_of.get(shapes),
            )
        )

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latest = self._latest
        figures: dict[str, float | None] = {}
        if self.data_wait:
            figures["data_wait"] = fmean(batch.waited for batch in latest)
            figures["batch_time"] = fmean(batch.whole for batch in latest)
        if self.speed:
            figures |= self._speeds(trainer)
        if self.flops:
            figures |= self._computing()
        for name, value in figures.items():
            if value is not None:
                # Numbers would be copied to the accelerator, for which the host waits.
                shown = name == "scenes_per_second"
                logged = torch.tensor(value)
                pl_module.log(f"train/{name}", logged, prog_bar=shown, batch_size=1)

    def _speeds(self, trainer: Trainer) -> dict[str, float | None]:
        latest, step = self._latest, trainer.global_step
        seconds = sum(batch.whole for batch in latest)
        memory = peak_memory(trainer.strategy.root_device)
        done, left = step - self._first_step, trainer.max_steps - step
        elapsed = perf_counter() - self._start
        return {
            "scenes_per_second": sum(b.scenes for b in latest) * trainer.world_size / seconds,
            "target_pixels_per_second": sum(b.pixels for b in latest)
            * trainer.world_size
            / seconds,
            "step_time": seconds / len(latest) * trainer.accumulate_grad_batches,
            "peak_memory": None if memory is None else memory / GIGA,
            "hours_left": time_left(elapsed, done, left) / 3600 if done and left >= 0 else None,
        }

    def _computing(self) -> dict[str, float | None]:
        counts = _known([batch.flops for batch in self._latest])
        if counts is None:
            return {}
        a_second = sum(counts) / sum(batch.whole for batch in self._latest)
        share = None if self._peak is None else a_second / self._peak
        return {"tflops_per_second": a_second / TERA, "peak_share": share}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous_end = None  # what comes before the next batch is no waiting for data

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._previous_end = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._counter.stop()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if self.gradient_norm and gradients:
            norm = torch.stack(norms(gradients)).norm()
            pl_module.log("train/gradient_norm", norm, batch_size=1)


def _shapes(batch: Batch) -> tuple[torch.Size, ...]:
    """All that the number of operations depends on."""
    return batch.context.image.shape, batch.target.image.shape


def _known(counts: Sequence[int | None]) -> list[int] | None:
    """The counts, or None if one of them is not known."""
    known = [count for count in counts if count is not None]
    return known if len(known) == len(counts) else None
