"""SIGTERM, the warning before a machine is taken away, when several processes train together."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Preemption(Callback):
    """Stops all processes after the same batch when one of them receives SIGTERM.

    Lightning's own handler talks to the other processes at once, in the middle of whatever they
    exchange; with several processes this one takes its place and only remembers the signal. A
    single process is left to Lightning. Either way a SIGTERMException follows, on which
    :class:`LatestCheckpoint` saves.
    """

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._received = False
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._remember)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._agree(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # As many batches on every rank, so all come here together.
        if self._previous is not None:
            self._agree(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._received = True

    def _agree(self, trainer: Trainer) -> None:
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._received, all=False
        ):
            # What Lightning's loops look at after every batch; there is no public way to say it.
            trainer._signal_connector.received_sigterm = True
