"""An error in one of several processes, which ends them all instead of letting the others wait."""

import logging
import signal
import threading
from datetime import timedelta
from functools import partial

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.distributed import TCPStore

_log = logging.getLogger("mvsplat.training")

_FAILED, _SAVED = "failed", "saved"
_EVERY = 1.0
"""Seconds between two looks at what became of the other processes."""
_TO_LEAVE, _TO_SAVE = 10, 40
"""Seconds after which a process is killed that waits for one that failed, or that failed itself."""


class EndTogether(Callback):
    """Ends all processes within a minute when one of them fails, or the first one is gone.

    A process that fails says so in a store beside the one of torch.distributed, where a thread of
    every other process looks. Those may be waiting in a collective, out of reach of Python: the
    system's alarm clock kills them.
    """

    def __init__(self) -> None:
        self._store: TCPStore | None = None
        self._ended = threading.Event()
        self._failing = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or self._store is not None:
            return
        self._ended.clear()
        self._store = _connect(trainer)
        if self._store is not None:
            threading.Thread(target=self._watch, args=(self._store,), daemon=True).start()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            return  # after which all end by themselves
        self._failing = True
        _kill_in(_TO_SAVE)
        launcher = trainer.strategy.launcher
        if self._store is None and launcher is not None:
            launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # type: ignore[attr-defined]
        elif self._store is not None:
            try:
                self._store.set(_FAILED, str(trainer.global_rank))
            except RuntimeError:  # the first process is gone already, which they all see
                pass

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            self._ended.set()
            trainer.strategy.barrier()  # the store is the first process's
            self._store = None

    def saves(self) -> bool:
        """Whether it is this process that saves what they all have: the first one that asks."""
        try:
            return self._store is not None and self._store.add(_SAVED, 1) == 1
        except RuntimeError:
            return False

    def _watch(self, store: TCPStore) -> None:
        """Look after the others until one of them fails, or all are done."""
        while not self._ended.wait(_EVERY):
            try:
                if not store.check([_FAILED]):
                    continue
                which = f"process {store.get(_FAILED).decode()} failed"
            except RuntimeError:
                which = "the first process is gone"
            if not (self._failing or self._ended.is_set()):
                _log.error("%s: this one ends, too", which)
                _kill_in(_TO_LEAVE)
            return


def saves_alone(trainer: Trainer, exception: BaseException) -> bool:
    """Whether this process is to save a run that an exception ends, with no help from others."""
    if trainer.world_size == 1:
        return True
    if not isinstance(trainer.strategy, DDPStrategy):  # where each has a part of the weights
        return False
    watchers = [c for c in trainer.callbacks if isinstance(c, EndTogether)]  # type: ignore[attr-defined]
    if isinstance(exception, SIGTERMException) or not watchers:
        return trainer.is_global_zero
    return watchers[0].saves()


def _connect(trainer: Trainer) -> TCPStore | None:
    """A store of the first process's that all reach; in every process at the same time."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None:
        return None
    host = environment.main_address
    connect = partial(TCPStore, host, wait_for_workers=False, timeout=timedelta(seconds=30))
    store = connect(port=0, is_master=True) if trainer.is_global_zero else None
    port = trainer.strategy.broadcast(store.port if store is not None else 0)
    try:
        return store or connect(port=port)
    except RuntimeError as error:
        _log.warning(
            "port %d of %s cannot be reached (%s): where another process fails, this one may wait "
            "for it until torch.distributed gives up",
            port,
            host,
            error,
        )
        return None


def _kill_in(seconds: int) -> None:
    """Let the system end this process, whatever it does by then."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
