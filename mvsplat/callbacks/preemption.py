"""SIGTERM, the warning before a machine is taken away, when several processes train together."""

import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Preemption(Callback):
    """Stops all processes after the same batch when one of them receives SIGTERM.

    Lightning's own handler talks to the other processes at once, in the middle of whatever they
    exchange; with several processes this one takes its place and only remembers the signal. A
    single process is left to Lightning. Either way a SIGTERMException follows, on which
    :class:`LatestCheckpoint` saves. In a test, whose processes exchange nothing before its end,
    each stops by itself, and :class:`TestResults` writes the scores so far.
    """

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None
        self._shared_batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._received = False
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._remember)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_start(trainer, pl_module)

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
            _stop_soon(trainer)

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
        if self._previous is not None:
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
        if self._previous is not None and batch_idx < self._shared_batches:
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
            _stop_soon(trainer)


def _stop_soon(trainer: Trainer) -> None:
    # What Lightning's loops look at after every batch; there is no public way to say it.
    trainer._signal_connector.received_sigterm = True


def _fewest_batches(trainer: Trainer) -> int:
    """Of a validation, over all processes; 0 if one does not know or has several loaders."""
    sizes = [size for size in trainer.num_val_batches if size != float("inf")]
    mine = int(sizes[0]) if len(sizes) == len(trainer.num_val_batches) == 1 else 0
    fewest = torch.tensor(mine, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(fewest, torch.distributed.ReduceOp.MIN)
    return int(fewest)
