"""Several data sets in one stream: which of them each optimizer step of training draws from.

A batch has one picture size and one number of views, so that all samples of a step, over its
batches and processes, are of one data set. Each set is gone through in a shuffled order of its own,
again and again. Which set a step draws is a function of the seed and the step alone, and with the
numbers of samples that were taken before a resume, so is which samples it takes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, takewhile
from typing import Any, Literal

import torch
from torch import Tensor

from mvsplat.data.loading.examples import Examples, ExampleSettings, SceneExamples
from mvsplat.data.loading.streams import (
    BatchPlan,
    EndlessPlan,
    FixedPlan,
    SampleOrder,
    SampleRequest,
    ShuffledOrder,
    combined_seed,
    make_generator,
)
from mvsplat.data.loading.view_samplers import SampleChoice, ViewSampler
from mvsplat.data.scene import SceneSource
from mvsplat.types import Batch

_BLOCK = 4096


@dataclass
class MixedSource:
    """One of several data sets that are trained on together.

    Args:
        source: Where its scenes come from.
        weight: How often an optimizer step, or a sample of validation, is drawn from it, relative
            to the others.
        near: Nearest depth to consider; null as for all of the data.
        far: Farthest depth to consider; null as for all of the data.
        image_shape: Height and width of its views; null as for all of the data (train_shapes, too).
        frame_shape: Skip scenes whose frames have another height and width; null as for all.
        train_views: Chooses its views for training; null as for all of the data.
        val_views: Chooses its views for validation; null as for all of the data.
        test_views: Chooses its views for testing; null as for all of the data.
        predict_views: Chooses its views for prediction; null as for all of the data.
    """

    source: SceneSource
    weight: float = 1.0
    near: float | Literal["auto"] | None = None
    far: float | Literal["auto"] | None = None
    image_shape: tuple[int, int] | None = None
    frame_shape: tuple[int, int] | None = None
    train_views: ViewSampler | None = None
    val_views: ViewSampler | None = None
    test_views: ViewSampler | None = None
    predict_views: ViewSampler | None = None

    def settings(self, common: ExampleSettings) -> ExampleSettings:
        """Those of all the data, but for its own."""
        names = ("near", "far", "image_shape", "frame_shape")
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(common, **own)

    def views(self, stage: str) -> ViewSampler | None:
        """Its own view sampler of a stage."""
        return getattr(self, f"{stage}_views")


class Draws:
    """What each number of an endless sequence is drawn from: a function of it and the seed alone.

    Args:
        weights: By name, how often each is drawn relative to the others.
        seed: Another seed is another sequence.

    Raises:
        ValueError: There are none, or a weight makes no sense.
    """

    def __init__(self, weights: Mapping[str, float], seed: int) -> None:
        if not weights:
            raise ValueError("mixture names no sources; expected at least one, or null")
        for name, weight in weights.items():
            if not 0 < weight < float("inf"):
                raise ValueError(f"mixture: the weight of {name} is {weight}; expected more than 0")
        self.names = list(weights)
        self.seed = seed
        self._weights = torch.tensor([float(weight) for weight in weights.values()])
        self._before = [torch.zeros(len(weights), dtype=torch.long)]  # of each block
        self._latest: tuple[int, Tensor] | None = None

    def of(self, number: int) -> int:
        """Which of the names a number has drawn."""
        return int(self._block(number // _BLOCK)[number % _BLOCK])

    def before(self, number: int) -> list[int]:
        """How often each was drawn by the numbers below."""
        block, place = divmod(number, _BLOCK)
        while len(self._before) <= block:
            counts = self._count(self._block(len(self._before) - 1))
            self._before.append(self._before[-1] + counts)
        return (self._before[block] + self._count(self._block(block)[:place])).tolist()

    def _count(self, drawn: Tensor) -> Tensor:
        return torch.bincount(drawn, minlength=len(self.names))

    def _block(self, block: int) -> Tensor:
        if self._latest is None or self._latest[0] != block:
            generator = make_generator(self.seed, block)
            drawn = torch.multinomial(self._weights, _BLOCK, replacement=True, generator=generator)
            self._latest = block, drawn
        return self._latest[1]


class SamplesUsed:
    """How many samples training has taken of each data set, by the optimizer step.

    Args:
        draws: What each step draws.
    """

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self._step: int | None = 0
        self._used = dict.fromkeys(draws.names, 0)

    def resume_at(self, step: int | None, used: Mapping[str, int]) -> None:
        """Go on from numbers after a step; None: whichever step comes next."""
        self._step = step
        self._used = {name: used.get(name, 0) for name in self.draws.names}

    def at(self, step: int, samples_a_step: int) -> dict[str, int]:
        """Numbers by name, when so many steps are done."""
        if self._step is None:
            self._step = step
        drawn = zip(self.draws.before(step), self.draws.before(self._step), strict=True)
        steps = [now - then for now, then in drawn]
        used = zip(self._used.items(), steps, strict=True)
        return {name: before + samples_a_step * more for (name, before), more in used}


class MixedTrainPlan(BatchPlan):
    """Training: batches without end, those of an optimizer step from one data set.

    Args:
        plan: The same without regard to data sets.
        used: Samples that were taken before.
    """

    def __init__(self, plan: EndlessPlan, used: SamplesUsed) -> None:
        self.plan, self.used = plan, used

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        share, accumulate = self.plan.share, self.plan.accumulate
        start, draws = self.plan.start(), self.used.draws
        batch = share.batch_size * share.world_size
        within = start.accumulated * batch  # the step that it may begin in
        for requests in EndlessPlan(share, accumulate, lambda: start):
            step = requests[0].step
            part = draws.of(step)
            taken = self.used.at(step, batch * accumulate)[draws.names[part]]
            first = start.position + (step - start.step) * batch * accumulate - within
            yield [
                SampleRequest(_code(taken + position - first, part, draws), step)
                for position, _ in requests
            ]


class MixedValPlan(BatchPlan):
    """Validation: each sample from one of the data sets.

    Args:
        plan: The positions of the samples.
        draws: What each position draws.
    """

    def __init__(self, plan: FixedPlan, draws: Draws) -> None:
        self.plan, self.draws = plan, draws

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        for requests in self.plan:
            yield [SampleRequest(self._place(position), step) for position, step in requests]

    def _place(self, position: int) -> int:
        part = self.draws.of(position)
        return _code(self.draws.before(position)[part], part, self.draws)


def _code(position: int, part: int, draws: Draws) -> int:
    """A position in the stream of one data set, as :class:`MixedOrder` takes it."""
    return position * len(draws.names) + part


class MixedOrder(SampleOrder):
    """The order of each data set; positions name the set as well (p * sets + number of the set).

    Args:
        orders: The sets' own.
    """

    def __init__(self, orders: Sequence[SampleOrder]) -> None:
        self.orders = orders
        self._firsts = [0, *accumulate(len(order) for order in orders)]

    def __len__(self) -> int:
        return self._firsts[-1]

    def at(self, position: int, ahead: int = 0) -> int:
        position, part = divmod(position, len(self.orders))
        return self._firsts[part] + self.orders[part].at(position, ahead)

    def upcoming(self, position: int) -> Iterator[int]:
        """Of the set that the position is of."""
        position, part = divmod(position, len(self.orders))
        return (self._firsts[part] + index for index in self.orders[part].upcoming(position))


class Mixture:
    """Data sets that are trained on together, and how far training has come in each.

    Args:
        parts: By name.
        seed: Another seed is another choice of sets.

    Raises:
        ValueError: There are none, or a weight makes no sense.
    """

    def __init__(self, parts: Mapping[str, MixedSource], seed: int) -> None:
        self.parts = dict(parts)
        weights = {name: part.weight for name, part in parts.items()}
        self._used = SamplesUsed(Draws(weights, combined_seed(seed, 0)))
        self._val_draws = Draws(weights, combined_seed(seed, 1))

    def train_plan(self, plan: EndlessPlan) -> BatchPlan:
        """A plan of training, its samples from the sets that its steps draw."""
        return MixedTrainPlan(plan, self._used)

    def val_plan(self, plan: FixedPlan) -> BatchPlan:
        """A plan of validation, its samples from the sets that their positions draw."""
        return MixedValPlan(plan, self._val_draws)

    def state(self, step: int, samples_a_step: int) -> dict[str, Any]:
        """What a resumed run has to know after a step."""
        return {"step": step, "used": self._used.at(step, samples_a_step)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, which one source may have left that is no mixture."""
        self._used.resume_at(state.get("step"), state.get("used", {}))

    def find(self, sample: str) -> tuple[MixedSource, str] | None:
        """The data set that a sample's name begins with, and the rest of the name."""
        for name in sorted(self.parts, key=len, reverse=True):
            if sample.startswith(f"{name}-"):
                return self.parts[name], sample.removeprefix(f"{name}-")
        return None


class MixedExamples(Examples):
    """The samples of several data sets, one set after the other, with its name before a scene's.

    Args:
        parts: The sets' own, by name.
    """

    def __init__(self, parts: Mapping[str, SceneExamples]) -> None:
        self.parts = dict(parts)
        self._firsts = [0, *accumulate(len(part) for part in parts.values())]

    def __len__(self) -> int:
        return self._firsts[-1]

    def sample(self, index: int, step: int, generator: torch.Generator) -> Batch:
        name, index = self._find(index)
        batch = self.parts[name].sample(index, step, generator)
        return replace(batch, scene=[f"{name}-{scene}" for scene in batch.scene])

    def expect(self, upcoming: Iterable[int]) -> None:
        """The set of the first one is told those that come before another set's."""
        indices = iter(upcoming)
        index = next(indices, None)
        if index is None:
            return
        name, within = self._find(index)
        part, first = self.parts[name], index - within
        own = (number - first for number in chain([index], indices))
        part.expect(takewhile(lambda number: 0 <= number < len(part), own))

    def name(self, index: int) -> str:
        name, index = self._find(index)
        return f"{name}-{self.parts[name].name(index)}"

    def shuffled(self, window: int, seed: int) -> MixedOrder:
        """Each set in a :class:`ShuffledOrder` of its own."""
        return MixedOrder(
            [
                ShuffledOrder(part.groups(), window, combined_seed(seed, number))
                for number, part in enumerate(self.parts.values())
            ]
        )

    @property
    def choice(self) -> SampleChoice:
        """What the sets' view samplers leave out, together."""
        left_out: dict[str, list[str]] = {}
        unusable: dict[str, dict[str, str]] = {}
        for part, examples in self.parts.items():
            for reason, names in examples.choice.left_out.items():
                left_out.setdefault(reason, []).extend(f"{part}-{name}" for name in names)
            for reason, details in examples.choice.unusable.items():
                named = {f"{part}-{name}": detail for name, detail in details.items()}
                unusable.setdefault(reason, {}).update(named)
        remarks = [f"{n}: {r}" for n, part in self.parts.items() for r in part.choice.remarks]
        return SampleChoice({}, left_out, unusable, remarks)

    def _find(self, index: int) -> tuple[str, int]:
        part = bisect_right(self._firsts, index) - 1
        return list(self.parts)[part], index - self._firsts[part]
