"""Where the training stream is, by the trainer's count of training batches."""

from typing import Any

from mvsplat.data.loading.streams import StreamStart
from mvsplat.private_names import batch_progress


class StreamPosition:
    """The position that the training stream has reached, over resumes and the ends of epochs.

    Processed batches count, not those that loaders have made ahead. All methods take Lightning's
    trainer; without one (None) the stream stays where it is.

    Args:
        batch_size: Samples a batch, in each process.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        # The position after so many training batches; these are known when the trainer has restored
        # its counts.
        self._resumed_position = 0
        self._resumed_batches: int | None = 0

    def resume_at(self, position: int) -> None:
        """Go on from a position, whatever batches the trainer says that led there."""
        self._resumed_position, self._resumed_batches = position, None

    def start(self, trainer: Any) -> StreamStart:
        """Where the stream begins or, after an epoch's end or a resume, goes on."""
        if self._resumed_batches is None:
            self._resumed_batches = _batches_done(trainer)
        step = 0 if trainer is None else trainer.global_step
        return StreamStart(self._reached(trainer), step, _batches_begun(trainer))

    def after_whole_steps(self, trainer: Any) -> int:
        """The position that whole optimizer steps have brought the stream to."""
        return self._reached(trainer, before=_batches_begun(trainer))

    def _reached(self, trainer: Any, before: int = 0) -> int:
        """The position that the stream has reached, or had ``before`` so many batches."""
        if self._resumed_batches is None:
            return self._resumed_position
        batches = _batches_done(trainer) - self._resumed_batches - before
        world_size = 1 if trainer is None else trainer.world_size
        return self._resumed_position + batches * self.batch_size * world_size


def _batches_done(trainer: Any) -> int:
    return 0 if trainer is None else batch_progress(trainer).total.processed


def _batches_begun(trainer: Any) -> int:
    """Batches that are done of an optimizer step that is not."""
    if trainer is None:
        return 0
    progress = batch_progress(trainer)
    if progress.is_last_batch and progress.current.processed == progress.current.ready:
        # Lightning ends an epoch with an optimizer step, whether or not all its batches are in.
        return 0
    return progress.current.processed % trainer.accumulate_grad_batches
