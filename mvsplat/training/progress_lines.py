"""The progress of a run in a log file: a line now and then, where a terminal would have a bar."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar

from mvsplat.evaluation.metric_table import PSNR
from mvsplat.progress import Lines, Pace, duration, log_line, time_left

T = TypeVar("T")


class ProgressLines(LightningProgressBar):
    """Says at growing intervals, up to a minute, how far training or an evaluation is.

    The speed is that since the line before; the time left is judged by the whole run so far, its
    validations included.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._pace = Pace()
        self._first_step = self._step = 0
        self._time = 0.0
        self._evaluation: Lines | None = None
        self._batches = 0

    def enable(self) -> None:
        self._is_enabled = True

    def disable(self) -> None:
        """Lightning's way to silence all processes but the first."""
        self._is_enabled = False

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """The items; what takes long enough is told line by line."""
        lines = Lines(description, seldom=True) if self._is_enabled else None
        for done, item in enumerate(items, 1):
            yield item
            if lines is not None:
                lines.update(done, total)
        if lines is not None:
            lines.end()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pace, self._time = Pace(), 0.0
        self._first_step = self._step = trainer.global_step
        if self._is_enabled:
            log_line(f"training from step {self._step}{_of(trainer.max_steps)} ...")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # With gradient accumulation several batches end at the same step.
        if not self._is_enabled or trainer.global_step == self._step:
            return
        if trainer.global_step == trainer.max_steps or self._pace.is_due():
            self._write_step(trainer)

    def _write_step(self, trainer: Trainer) -> None:
        step, elapsed = trainer.global_step, self._pace.elapsed
        named = (("train/loss", "loss", 4), ("train/psnr", PSNR.heading, PSNR.digits))
        parts = _values(trainer.callback_metrics, named)
        speed = (step - self._step) / max(elapsed - self._time, 1e-9)
        parts.append(f"{speed:.3g} steps/s")
        parts += _figures(trainer.callback_metrics)
        if trainer.max_steps > step:
            left = time_left(elapsed, step - self._first_step, trainer.max_steps - step)
            parts.append(f"{duration(left)} left")
        log_line(f"step {step}{_of(trainer.max_steps)}: {', '.join(parts)}")
        self._step, self._time = step, elapsed

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_enabled and trainer.global_step != self._step:
            self._write_step(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("sanity check" if trainer.sanity_checking else "validation")

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        sanity = trainer.sanity_checking
        self._advance(trainer.num_sanity_val_batches if sanity else trainer.num_val_batches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # In a sanity check, nothing has been measured yet.
        values = {} if trainer.sanity_checking else trainer.callback_metrics
        model: Any = pl_module
        named = ((f"val/{m.name}", m.heading, m.digits) for m in model.metrics)
        self._end(_values(values, named))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("test")

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._advance(trainer.num_test_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("predict")

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._advance(trainer.num_predict_batches)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def _begin(self, description: str) -> None:
        self._batches = 0
        self._evaluation = Lines(description) if self._is_enabled else None

    def _advance(self, totals: Any) -> None:
        self._batches += 1
        if self._evaluation is not None:
            self._evaluation.update(self._batches, sum(totals))

    def _end(self, values: list[str] | None = None) -> None:
        if self._evaluation is not None:
            self._evaluation.end(", ".join(values or []))
        self._evaluation = None


def _values(metrics: Mapping[str, Any], named: Iterable[tuple[str, str, int]]) -> list[str]:
    """The metrics that are there, as text; of each its key, title and digits."""
    return [f"{title} {float(metrics[key]):.{n}f}" for key, title, n in named if key in metrics]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """What :class:`TrainingMonitor` says of the speed, as text."""
    known = {name: float(value) for name, value in metrics.items()}
    parts = []
    if "train/scenes_per_second" in known:
        parts.append(f"{known['train/scenes_per_second']:.3g} scenes/s")
    if known.get("train/batch_time"):
        waiting = known["train/data_wait"] / known["train/batch_time"]
        parts.append(f"{waiting:.0%} waiting for data")
    if "train/tflops_per_second" in known:
        share = known.get("train/peak_share")
        of_peak = "" if share is None else f" ({share:.0%} of the peak)"
        parts.append(f"{known['train/tflops_per_second']:.3g} TFLOP/s{of_peak}")
    if "train/peak_memory" in known:
        parts.append(f"{known['train/peak_memory']:.3g} GB")
    return parts


def _of(total: int) -> str:
    return f" of {total}" if total > 0 else ""
