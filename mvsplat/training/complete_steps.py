"""Whether the weights are those of a complete optimizer step, wherever an exception came from."""

from lightning.pytorch import LightningModule, Trainer

from mvsplat.private_names import batch_progress, schedule_progress


class CompleteSteps:
    """Knows when weights, optimizer and schedule are as the last complete step left them."""

    def __init__(self) -> None:
        self._changing_after: int | None = None

    def begin(self) -> None:
        """Training begins."""
        self._changing_after = None

    def change(self, trainer: Trainer) -> None:
        """The optimizer changes the weights from here on, until one more batch is processed."""
        self._changing_after = _processed(trainer)

    def is_complete(self, trainer: Trainer) -> bool:
        """Whether a checkpoint of this moment is one of the last complete step."""
        schedule = schedule_progress(trainer)
        changing = _processed(trainer) == self._changing_after
        return not changing and schedule.ready == schedule.completed


def has_finite_weights(pl_module: LightningModule) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(p.isfinite().all()) for p in pl_module.parameters())


def _processed(trainer: Trainer) -> int:
    """Training batches, with the optimizer's steps on them."""
    return batch_progress(trainer).total.processed
