"""A user's own torch datasets as parts of our streams.

A map-style dataset (``__len__`` and ``__getitem__``) or an IterableDataset yields batches of one
scene (:class:`mvsplat.types.Batch`); ``__getitem__`` may raise UnsuitableScene. Shuffling,
splitting over ranks and workers, endless training and exactly-once testing are done here, so an
iterable dataset yields all of its samples in every process, in the same order every time. Samples
with NaN or infinite values are skipped: of a map-style dataset another one comes in their place, in
batches of an iterable one they are missing.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.collation import collate
from mvsplat.data.loading.examples import Examples
from mvsplat.data.loading.loaders import LoadedBatch
from mvsplat.data.loading.skips import SkippedScene
from mvsplat.data.loading.streams import SampleRequest, make_generator
from mvsplat.types import Batch

_SHUFFLE_BUFFER = 32
_NOT_FINITE = "values that are not finite"


class MapExamples(Examples):
    """Samples of a map-style dataset.

    The global random generators of torch, numpy and Python are seeded for each sample, so that
    random augmentations of the dataset repeat, too.

    Args:
        dataset: Its items are batches of one scene.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        if not len(self):
            raise ValueError(f"{type(dataset).__name__} is empty")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def sample(self, index: int, step: int, generator: torch.Generator) -> Batch:
        with _seeded(generator):
            item = self.dataset[index]
        checked = _checked(item, self.dataset)
        if problem := _not_finite(checked):
            raise UnsuitableScene(_NOT_FINITE) from ValueError(problem)
        return checked


class IterableBatches(Dataset):
    """Makes requested batches from an iterable dataset by going on to the requested positions.

    Every worker passes over all samples and keeps those it was asked for. Requests come in
    ascending order; a lower one starts over. A resumed run passes over the samples that it has had
    already: once over all of them, which shows how many there are, and over the beginning of the
    pass it is in; the passes between are left out.

    Args:
        dataset: An IterableDataset of batches of one scene.
        seed: Of the shuffling.
        shuffle: Shuffle within a buffer of 32 samples, another way every pass.
        repeat: Begin again after the last sample; otherwise the stream ends there.
    """

    def __init__(self, dataset: Dataset, seed: int, shuffle: bool, repeat: bool) -> None:
        self.dataset = dataset
        self.seed = seed
        self.shuffle = shuffle
        self.repeat = repeat
        self._items: Iterator[Batch] | None = None
        self._next = 0
        self._length = 0  # samples a pass, when that is known

    def __getitem__(self, requests: list[SampleRequest]) -> LoadedBatch:
        samples = [self._at(request.position) for request in requests]
        found = [sample for sample in samples if sample is not None]
        problems = [_not_finite(sample) for sample in found]
        skipped = [
            SkippedScene(_NOT_FINITE, sample.scene[0], problem)
            for sample, problem in zip(found, problems, strict=True)
            if problem
        ]
        good = [sample for sample, bad in zip(found, problems, strict=True) if not bad]
        ended = len(found) < len(samples)
        return LoadedBatch(collate(good) if good else None, skipped, ended)

    def _at(self, position: int) -> Batch | None:
        if self._items is None or position < self._next:
            self._begin(position)
        while True:
            if self._length and position // self._length - self._next // self._length > 1:
                self._begin(position)
            try:
                item = next(self._items)  # type: ignore[arg-type]
            except StopIteration:
                return None
            self._next += 1
            if self._next > position:
                return _checked(item, self.dataset)

    def _begin(self, position: int) -> None:
        """Start with the pass that a position is in, or the first one."""
        epoch = position // self._length if self._length else 0
        self._items, self._next = self._passes(epoch), epoch * self._length

    def _passes(self, epoch: int) -> Iterator[Any]:
        while True:
            items = iter(self.dataset)  # type: ignore[call-overload]
            if self.shuffle:
                items = _shuffled(items, make_generator(self.seed, epoch))
            count = 0
            for item in items:
                count += 1
                yield item
            if not count:
                raise ValueError(f"{type(self.dataset).__name__} yields no samples")
            if not self.repeat:
                return
            self._length = count
            epoch += 1

    def __getstate__(self) -> dict[str, Any]:
        # A running iterator cannot travel to a worker process; there, a new one goes on.
        return {**self.__dict__, "_items": None, "_next": 0}


def _shuffled(items: Iterator[Any], generator: torch.Generator) -> Iterator[Any]:
    """Each next item takes the place of a random one of the buffer, which comes out."""
    buffer: list[Any] = []
    for item in items:
        if len(buffer) < _SHUFFLE_BUFFER:
            buffer.append(item)
            continue
        place = int(torch.randint(len(buffer), (), generator=generator))
        buffer[place], item = item, buffer[place]
        yield item
    for place in torch.randperm(len(buffer), generator=generator).tolist():
        yield buffer[place]


def _checked(item: Any, dataset: Dataset) -> Batch:
    if not isinstance(item, Batch) or len(item.scene) != 1 or len(item.context.image) != 1:
        found = f"a batch of {len(item.scene)}" if isinstance(item, Batch) else f"a {type(item)}"
        raise ValueError(
            f"{type(dataset).__name__} yields {found}; expected mvsplat.types.Batch of one scene"
        )
    return item


def _not_finite(sample: Batch) -> str:
    """Which of its tensors have NaN or infinite values; "" if all is well."""
    wrong = [
        f"{kind}.{name}"
        for kind, views in (("context", sample.context), ("target", sample.target))
        for name in ("image", "extrinsics", "intrinsics", "near", "far")
        if not bool(getattr(views, name).isfinite().all())
    ]
    return f"NaN or infinite values in {', '.join(wrong)}" if wrong else ""


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Global random generators seeded from ``generator``; restored afterwards."""
    seed = int(torch.randint(2**32, (), generator=generator))
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
