"""Which sample comes when: positions in a stream, their order, and who makes which of them.

A sample is a function of (seed, position, optimizer step) alone. The main process hands out lists
of positions, a list a batch; loader workers only carry them out, so batches do not depend on how
many workers there are, and a stream that starts at a later position goes on as if it had been there
all along. With B samples a batch and R ranks, batch j of rank r takes the positions
(j R + r) B, ..., (j R + r) B + B - 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import torch


class SampleRequest(NamedTuple):
    """A sample to make: its place in the stream and the optimizer step it will be used in."""

    position: int
    step: int


@dataclass(frozen=True)
class RankShare:
    """What part of a stream a process takes: its rank among how many, and its batch size."""

    batch_size: int
    rank: int = 0
    world_size: int = 1

    def batch(self, start: int, number: int) -> range:
        """Positions of this rank's batch ``number`` in the stream that begins at ``start``."""
        first = start + (number * self.world_size + self.rank) * self.batch_size
        return range(first, first + self.batch_size)


class StreamStart(NamedTuple):
    """Where an endless stream begins.

    Args:
        position: First position, over all ranks.
        step: Optimizer step of the first batch.
        accumulated: Batches of that step that are already done (with gradient accumulation).
    """

    position: int = 0
    step: int = 0
    accumulated: int = 0


class BatchPlan(ABC):
    """Hands out one rank's batches, as lists of requests."""

    @abstractmethod
    def __iter__(self) -> Iterator[list[SampleRequest]]:
        """A list of requests for each batch."""


class EndlessPlan(BatchPlan):
    """Training: batches without end.

    Args:
        share: This process's share.
        accumulate: Batches an optimizer step.
        start: Says where to begin; asked again at every iteration.
    """

    def __init__(
        self, share: RankShare, accumulate: int = 1, start: Callable[[], StreamStart] = StreamStart
    ) -> None:
        self.share = share
        self.accumulate = accumulate
        self.start = start

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        start = self.start()
        number = 0
        while True:
            step = start.step + (start.accumulated + number) // self.accumulate
            positions = self.share.batch(start.position, number)
            yield [SampleRequest(position, step) for position in positions]
            number += 1


class FixedPlan(BatchPlan):
    """Validation: the same number of batches on every rank, every time.

    Where ``count`` does not divide, other samples follow, so that no rank is left with fewer
    batches (which would make the others wait for ever).

    Args:
        share: This process's share.
        count: Samples over all ranks.
        start: First position; asked again at every iteration.
    """

    def __init__(self, share: RankShare, count: int, start: Callable[[], int] = int) -> None:
        self.share = share
        self.count = count
        self.start = start

    def __len__(self) -> int:
        return math.ceil(self.count / (self.share.batch_size * self.share.world_size))

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        start = self.start()
        # Alone, the last batch may be smaller; with several ranks all are full.
        end = start + self.count if self.share.world_size == 1 else float("inf")
        for number in range(len(self)):
            positions = self.share.batch(start, number)
            yield [SampleRequest(position, 0) for position in positions if position < end]


class ExactlyOncePlan(BatchPlan):
    """Test and prediction: every position exactly once over all ranks, none repeated to pad.

    Args:
        share: This process's share; ranks may get different numbers of batches.
        count: Samples over all ranks; None: until the loader finds that there are no more.
    """

    def __init__(self, share: RankShare, count: int | None) -> None:
        self.share = share
        self.count = count

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("the number of samples is not known")
        batches = math.ceil(self.count / self.share.batch_size)
        mine = len(range(self.share.rank, batches, self.share.world_size))
        # Lightning leaves a loop over nothing at once, and the other processes would wait for it.
        return max(mine, 1) if self.share.world_size > 1 else mine

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        end = float("inf") if self.count is None else self.count
        number = 0
        while (positions := self.share.batch(0, number)).start < end:
            yield [SampleRequest(position, 0) for position in positions if position < end]
            number += 1


class SampleOrder(ABC):
    """Which sample each position of a stream is."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples an epoch."""

    @abstractmethod
    def at(self, position: int, ahead: int = 0) -> int:
        """Index of the sample at ``position``, or the one ``ahead`` of it in the same epoch."""

    def upcoming(self, position: int) -> Iterator[int]:
        """Indices of the samples from ``position`` on."""
        return map(self.at, count(position))


class InOrder(SampleOrder):
    """Samples as they are numbered."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def at(self, position: int, ahead: int = 0) -> int:
        return (position + ahead) % self.count

    def upcoming(self, position: int) -> Iterator[int]:
        return iter(range(position, self.count))  # evaluation ends there


class ShuffledOrder(SampleOrder):
    """Samples in an order of its own every epoch, near each other where they lie together.

    Groups (the scenes of a chunk, say) are shuffled; then samples are shuffled within windows of a
    few neighbouring groups, so that only these need to be open at a time.

    Args:
        groups: Indices of the samples, group by group; together 0, 1, ..., n - 1.
        window: Groups whose samples are shuffled with one another.
        seed: Another seed is another order.
    """

    def __init__(self, groups: Sequence[Sequence[int]], window: int, seed: int) -> None:
        self.groups = [torch.as_tensor(group) for group in groups]
        self.window = window
        self.seed = seed
        self.count = sum(len(group) for group in groups)
        self._cached: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return self.count

    def at(self, position: int, ahead: int = 0) -> int:
        epoch, place = divmod(position, self.count)
        if self._cached is None or self._cached[0] != epoch:
            self._cached = epoch, self._epoch(epoch)
        return int(self._cached[1][(place + ahead) % self.count])

    def _epoch(self, epoch: int) -> torch.Tensor:
        generator = make_generator(self.seed, epoch)
        groups = torch.randperm(len(self.groups), generator=generator).split(self.window)
        windows = [torch.cat([self.groups[number] for number in window]) for window in groups]
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in windows])


def combined_seed(*numbers: int) -> int:
    """A seed that depends on all the numbers (each at least 0) and on their order."""
    # With their number, because SeedSequence takes (1,) and (1, 0) for the same.
    sequence = np.random.SeedSequence([len(numbers), *numbers])
    return int(sequence.generate_state(1, np.uint64)[0])


def make_generator(*numbers: int) -> torch.Generator:
    """A random generator seeded by :func:`combined_seed`."""
    return torch.Generator().manual_seed(combined_seed(*numbers))
