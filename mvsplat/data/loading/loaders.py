"""Loaders: requests in, batches out, made in worker processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset

from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.collation import collate
from mvsplat.data.loading.examples import Examples
from mvsplat.data.loading.skips import SkippedScene, SkipReport, no_usable_scenes
from mvsplat.data.loading.streams import BatchPlan, SampleOrder, SampleRequest, make_generator
from mvsplat.machine import exit_once, usable_cores
from mvsplat.private_names import stop_workers
from mvsplat.types import Batch

# A stream with fewer usable scenes than one in 1000 is taken to have none; a single scene may be
# unsuitable with some views (too close together, say) and suitable with others.
_LEAST_TRIES, _MOST_TRIES = 20, 1000
_PATIENCE = 30.0
"""Seconds that a worker goes on after SIGTERM."""


@dataclass(frozen=True)
class LoaderSettings:
    """How one stage's batches are loaded.

    Args:
        batch_size: Scenes a batch, on each device.
        num_workers: Worker processes that load, at most one a core; 0 loads in the training
            process. Their number changes no batch.
        prefetch_factor: Batches each worker loads ahead.
        pin_memory: Page-locked batches, faster to copy to a GPU; without one it does nothing.
        persistent_workers: Keep the workers from one validation to the next.
        multiprocessing_context: How workers are started; null is the system's way.
    """

    batch_size: int = 1
    num_workers: int = 2
    prefetch_factor: int = 2
    pin_memory: bool = True
    persistent_workers: bool = True
    multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("num_workers", 0), ("prefetch_factor", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass
class LoadedBatch:
    """What a worker returns: a batch, unless nothing of it could be used, and what was skipped."""

    batch: Batch | None
    skipped: list[SkippedScene] = field(default_factory=list)
    ended: bool = False

    def pin_memory(self) -> "LoadedBatch":
        """Called by torch's DataLoader."""
        return replace(self, batch=self.batch and self.batch.pin_memory())


class ExampleBatches(Dataset):
    """Makes requested batches, in whatever process it finds itself.

    Args:
        examples: Where samples come from.
        order: Which sample each position is.
        seed: With the position, seeds all randomness of a sample.
        replace_skipped: Take the next suitable sample in the order for one that is skipped.
    """

    def __init__(
        self, examples: Examples, order: SampleOrder, seed: int, replace_skipped: bool
    ) -> None:
        self.examples = examples
        self.order = order
        self.seed = seed
        tries = min(max(len(order), _LEAST_TRIES), _MOST_TRIES)
        self.tries = tries if replace_skipped else 1
        self.replace_skipped = replace_skipped

    def __getitem__(self, requests: list[SampleRequest]) -> LoadedBatch:
        self.examples.expect(self.order.upcoming(requests[0].position))
        skipped: list[SkippedScene] = []
        samples = [self._sample(request, skipped) for request in requests]
        usable = [sample for sample in samples if sample is not None]
        return LoadedBatch(collate(usable) if usable else None, skipped)

    def _sample(self, request: SampleRequest, skipped: list[SkippedScene]) -> Batch | None:
        before = len(skipped)
        for ahead in range(self.tries):
            index = self.order.at(request.position, ahead)
            generator = make_generator(self.seed, request.position, ahead)
            try:
                return self.examples.sample(index, request.step, generator)
            except UnsuitableScene as error:
                detail = str(error.__cause__ or "")
                skipped.append(SkippedScene(str(error), self.examples.name(index), detail))
        if self.replace_skipped:
            raise ValueError(no_usable_scenes(skipped[before:]))
        return None


class BatchLoader:
    """Iterates over one rank's batches, as often as it is asked to.

    It wraps a torch DataLoader instead of being one, because Lightning rebuilds DataLoaders with
    samplers of its own in distributed runs; the split over ranks is in the plan already.

    Args:
        plan: Which batches.
        batches: The batch of every list of requests, made where it is asked for.
        settings: Workers and the like.
        report: Told what was skipped.
        require_some: Raise if all scenes of an iteration were skipped.
    """

    def __init__(
        self,
        plan: BatchPlan,
        batches: Dataset,
        settings: LoaderSettings,
        report: SkipReport,
        require_some: bool = False,
    ) -> None:
        self.plan = plan
        self.report = report
        self.require_some = require_some
        self._running: Generator[Batch, None, None] | None = None
        workers = min(settings.num_workers, usable_cores())
        parallel = workers > 0
        self._loader = DataLoader(
            batches,
            batch_size=None,  # items are whole batches: torch is not to collate them
            sampler=plan,  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=settings.prefetch_factor if parallel else None,
            persistent_workers=settings.persistent_workers and parallel,
            multiprocessing_context=settings.multiprocessing_context if parallel else None,
            pin_memory=settings.pin_memory and torch.cuda.is_available(),
            worker_init_fn=_leave_with_parent,
        )

    def __len__(self) -> int:
        """Number of batches, skipped ones included; TypeError if endless or not known."""
        return len(self.plan)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        self._running = self._batches()
        return self._running

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module's state says where the stream is, the plan asks it.

        Having a state, the loader is resumable in Lightning's eyes, which warns of others.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load, see :meth:`state_dict`."""

    def close(self) -> None:
        """Stop the workers; another iteration starts new ones."""
        if self._running is not None:
            self._running.close()
            self._running = None
        stop_workers(self._loader)

    def _batches(self) -> Generator[Batch, None, None]:
        skipped: list[SkippedScene] = []
        some = False
        for loaded in self._loader:
            self.report.add(loaded.skipped)
            if loaded.batch is not None:
                some = True
                yield loaded.batch
            if not some:
                skipped += loaded.skipped
            if loaded.ended:
                break
        if self.require_some and skipped and not some:
            raise ValueError(no_usable_scenes(skipped))


def _leave_with_parent(worker: int) -> None:
    """Let a worker end soon after its parent, which may be killed and then ends no worker.

    One that waits to hand over a batch would wait for ever, because the other workers hold the
    reading end of its pipe, too. Ctrl-C and SIGTERM, which often reach all processes of a program
    at once, are the parent's business: it wants to finish a batch, or to save.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: threading.Timer(_PATIENCE, os._exit, (1,)).start())
    parent = multiprocessing.parent_process()
    assert parent is not None
    exit_once(parent.join)
