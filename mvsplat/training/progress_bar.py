"""The progress bar of runs that count optimizer steps, and of what takes long within a step."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

T = TypeVar("T")


class ProgressBar(RichProgressBar):
    """Lightning's, without the number of an epoch that never ends."""

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """The items, with a bar of their own under the run's while they are drawn."""
        progress: Any = self.progress
        if self.is_disabled or progress is None:
            yield from items
            return
        task = progress.add_task(description, total=total)
        try:
            for item in items:
                yield item
                progress.advance(task)
        finally:
            progress.remove_task(task)

    @property
    def total_train_batches(self) -> int | float:
        """The run's optimizer steps, those before a resume too; of an epoch its batches."""
        return self.trainer.max_steps if self._counts_steps else super().total_train_batches

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        done = trainer.global_step if self._counts_steps else batch_idx + 1
        # Lightning's shows one more than the index that it is given.
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done - 1)

    @property
    def _counts_steps(self) -> bool:
        return self.trainer.max_epochs == -1 and self.trainer.max_steps > 0

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(self.test_progress_bar_id)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(self.predict_progress_bar_id)

    def _fill(self, task: Any) -> None:
        """Let a bar end at its total: scenes that were left out are done with, too."""
        progress: Any = self.progress
        if progress is None or self.is_disabled or task is None:
            return
        for found in progress.tasks:
            if found.id == task and found.total is not None:
                self._update(task, found.total)

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_epochs == -1:
            return "Training"
        return super()._get_train_description(current_epoch)
