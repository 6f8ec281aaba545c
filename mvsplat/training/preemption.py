"""SIGTERM, the warning before a machine is taken away, and Ctrl-C end a run with a checkpoint."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mvsplat.private_names import stop_after_batch

_log = logging.getLogger("mvsplat.training")


class Preemption(Callback):
    """Stops training after the batch in which SIGTERM or Ctrl-C comes, in all processes the same.

    Lightning's own handlers talk to the other processes at once, in the middle of whatever they
    exchange, or end in the middle of an optimizer step; these take their place while a model is
    trained, and only remember the signal. A SIGTERMException follows, on which
    :class:`LatestCheckpoint` saves. A second Ctrl-C is left to the system, which ends the process
    at once. SIGTERM to a single process is left to Lightning.

    In a test, whose processes exchange nothing before its end, each stops by itself on SIGTERM, and
    :class:`TestResults` writes the scores so far.
    """

    def __init__(self) -> None:
        self._received: set[int] = set()
        self._previous: dict[int, Any] = {}
        self._shared_batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(signal.SIGINT, *_of_several(trainer))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(*_of_several(trainer))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._received:
            launcher: Any = trainer.strategy.launcher
            if launcher is not None and trainer.is_global_zero:
                launcher.kill(signal.SIGTERM)
            stop_after_batch(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._agree(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._previous and trainer.world_size > 1:
            # After these batches of a validation all processes come together; one of a user's own
            # data may have more.
            self._shared_batches = _fewest_batches(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._previous and (trainer.world_size == 1 or batch_idx < self._shared_batches):
            self._agree(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if signal.SIGINT in self._previous:  # nor does saving take long once Ctrl-C is pressed
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        interrupted = isinstance(exception, SIGTERMException) and signal.SIGINT in self._received
        if interrupted and trainer.is_global_zero:
            # As shells know it. From another process, launchers would take it for a failure and
            # kill this one while it saves.
            exception.code = 128 + signal.SIGINT  # type: ignore[attr-defined]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _listen(self, *signals: int) -> None:
        self._received.clear()
        if threading.current_thread() is threading.main_thread():
            for number in signals:
                self._previous[number] = signal.signal(number, self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._received.add(signum)
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _log.warning(
                "Ctrl-C: training ends after this batch, with a checkpoint; a second Ctrl-C ends "
                "it at once, without one"
            )

    def _agree(self, trainer: Trainer) -> None:
        stop = bool(self._received)
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            stop_after_batch(trainer)


def _of_several(trainer: Trainer) -> list[int]:
    return [signal.SIGTERM] if trainer.world_size > 1 else []


def _fewest_batches(trainer: Trainer) -> int:
    """Of a validation, over all processes; 0 if one does not know or has several loaders."""
    sizes = [size for size in trainer.num_val_batches if size != float("inf")]
    mine = int(sizes[0]) if len(sizes) == len(trainer.num_val_batches) == 1 else 0
    fewest = torch.tensor(mine, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(fewest, torch.distributed.ReduceOp.MIN)
    return int(fewest)
