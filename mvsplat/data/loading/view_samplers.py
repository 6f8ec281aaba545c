"""Which frames of a scene become context and which become targets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.configurable import Configurable
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.scene import Scene


@dataclass(frozen=True)
class SampleChoice:
    """Which samples there are, judged by the scenes' keys alone.

    Args:
        samples: Sample name to scene key. A sampler that takes a scene several times sees the
            sample's name as ``scene.key``.
        left_out: Scenes that are left out on purpose: reason to names.
        unusable: Samples that were asked for and cannot be made, so that results without them are
            incomplete: reason to names, each with what exactly is wrong ("" if the reason says it).
        remarks: What else a user should know of the choice.
    """

    samples: Mapping[str, str]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unusable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remarks: Sequence[str] = ()


class ViewSampler(Configurable, ABC):
    """Chooses views; derive from it to train or evaluate on another choice."""

    @abstractmethod
    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        """Frame numbers of the context and of the target views.

        Args:
            scene: The scene; its cameras may be looked at, its pictures should not.
            step: The optimizer step the sample will be used in (0 in evaluation).
            generator: The only source of randomness allowed, so that a run can be repeated.

        Raises:
            UnsuitableScene: The scene has no such views; it is skipped and counted by the reason.
        """

    def for_step(self, generator: torch.Generator) -> "ViewSampler":
        """The sampler for all samples of one optimizer step: what they share is drawn here.

        A batch has one number of views. All processes and all batches of a step get the same
        generator, so that a step does not depend on how it is divided among them.

        Args:
            generator: The only source of randomness allowed, the same one for the same step.
        """
        return self

    def choose(self, keys: Sequence[str]) -> SampleChoice:
        """Which samples there are; most samplers take every scene once, under its own key.

        Args:
            keys: The scenes there are.
        """
        return SampleChoice({key: key for key in keys})

    def notes(self, name: str) -> dict[str, float | str]:
        """What is known of a sample's views beforehand; results are kept and grouped with it.

        Args:
            name: The sample's name, as in :meth:`choose`.

        Returns:
            ``overlap``, a number from 0 to 1, and ``tier``, a group's name, as far as they are
            known.
        """
        return {}


Counts = int | tuple[int, int]
"""A number of views, or the smallest and the largest one."""


class VaryingViewSampler(ViewSampler):
    """A sampler whose number of context views may vary from step to step.

    Args:
        context_views: Number of context views, or the smallest and the largest one.
        least: Smallest number that the sampler can do with.

    Raises:
        ValueError: Not so.
    """

    def __init__(self, context_views: Counts, least: int) -> None:
        self.context_views = context_views
        low, high = self.view_counts
        if not least <= low <= high:
            raise ValueError(
                f"context_views is {context_views}; expected a number of at least {least}, or "
                "[min, max]"
            )

    @property
    def view_counts(self) -> tuple[int, int]:
        """The smallest and the largest number of context views."""
        counts = self.context_views
        return (counts, counts) if isinstance(counts, int) else (counts[0], counts[1])

    def for_step(self, generator: torch.Generator) -> "ViewSampler":
        fixed = copy(self)
        fixed.context_views = self.draw_count(generator)
        return fixed

    def draw_count(self, generator: torch.Generator) -> int:
        """A number of context views; one that is fixed takes nothing from the generator."""
        low, high = self.view_counts
        return low if low == high else draw_between(low, high, generator)


class BoundedViewSampler(VaryingViewSampler):
    """A stretch of frames whose length grows during training; its ends are context views.

    The gap between the outer context views is drawn uniformly from [min, max]; both bounds grow
    linearly from their initial to their final value over the warm-up. Targets are drawn uniformly
    between the outer context views. The defaults are the gap that the published models were in
    effect trained with: exactly 25 frames at first and exactly 45 from step 150,000 on. What was
    documented instead, a random gap within growing bounds, is max_gap 192, initial_max_gap 45.

    Args:
        context_views: Number of context views, at least 2; those beyond two are distinct frames
            drawn between the outer two. [min, max] draws another number every optimizer step.
        target_views: Number of target views.
        min_gap: Smallest number of frames from the first to the last context view.
        max_gap: Largest such number; a shorter scene lowers it.
        initial_min_gap: min_gap at step 0; null: the same as min_gap.
        initial_max_gap: max_gap at step 0; null: the same as max_gap.
        warm_up_steps: Optimizer steps over which the bounds grow; 0: they are final from the start.
        target_margin: Smallest number of frames between a target and the outer context views; 0
            lets a target be a context view.
    """

    def __init__(
        self,
        context_views: Counts = 2,
        target_views: int = 4,
        min_gap: int = 45,
        max_gap: int = 45,
        initial_min_gap: int | None = 25,
        initial_max_gap: int | None = 25,
        warm_up_steps: int = 150_000,
        target_margin: int = 0,
    ) -> None:
        initial_min_gap = min_gap if initial_min_gap is None else initial_min_gap
        initial_max_gap = max_gap if initial_max_gap is None else initial_max_gap
        super().__init__(context_views, least=2)
        if target_views < 1:
            raise ValueError(f"target_views is {target_views}; it must be at least 1")
        for name, low, high in (
            ("min_gap and max_gap", min_gap, max_gap),
            ("initial_min_gap and initial_max_gap", initial_min_gap, initial_max_gap),
        ):
            if not 1 <= low <= high:
                raise ValueError(f"{name} are {low} and {high}; expected 1 <= min <= max")
        if warm_up_steps < 0 or target_margin < 0:
            raise ValueError("warm_up_steps and target_margin cannot be negative")
        self.target_views = target_views
        self.min_gaps = (initial_min_gap, min_gap)
        self.max_gaps = (initial_max_gap, max_gap)
        self.warm_up_steps = warm_up_steps
        self.target_margin = target_margin

    def gap_bounds(self, step: int) -> tuple[int, int]:
        """Smallest and largest gap at an optimizer step, for scenes that are long enough."""
        done = min(step / self.warm_up_steps, 1.0) if self.warm_up_steps else 1.0
        low, high = (
            initial + int((final - initial) * done)
            for initial, final in (self.min_gaps, self.max_gaps)
        )
        room = max(self.view_counts[1] - 1, 2 * self.target_margin)
        return max(low, room), max(high, room)

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        inner = self.draw_count(generator) - 2
        low, high = self.gap_bounds(step)
        high = min(high, len(scene) - 1)
        if high < low:
            raise UnsuitableScene("too few frames for the gap between context views")
        gap = draw_between(low, high, generator)
        first = draw_between(0, len(scene) - 1 - gap, generator)
        between = first + 1 + torch.randperm(gap - 1, generator=generator)
        outer = torch.tensor([first, first + gap])
        context = torch.cat([outer, between[:inner]]).sort().values
        start, end = first + self.target_margin, first + gap - self.target_margin
        target = torch.randint(start, end + 1, (self.target_views,), generator=generator)
        return context, target


class MiddleViewSampler(ViewSampler):
    """Evenly spaced views from the middle of each scene, the same every time.

    Args:
        context_views: Number of context views, at least 2.
        target_views: Number of target views, evenly spaced between the outer context views.
        gap: Number of frames from the first to the last context view; a shorter scene is taken
            whole, null takes every scene whole.
    """

    def __init__(self, context_views: int = 2, target_views: int = 3, gap: int | None = 45) -> None:
        if context_views < 2 or target_views < 1 or (gap is not None and gap < 1):
            raise ValueError(
                f"context_views is {context_views}, target_views {target_views} and gap {gap}; "
                "at least 2, 1 and 1 are needed"
            )
        self.context_views = context_views
        self.target_views = target_views
        self.gap = gap

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        gap = len(scene) - 1 if self.gap is None else min(self.gap, len(scene) - 1)
        if gap < self.context_views - 1:
            raise UnsuitableScene("too few frames for the context views")
        first = (len(scene) - 1 - gap) // 2
        # In float32, what is exactly half a frame could be rounded either way.
        context = torch.linspace(first, first + gap, self.context_views, dtype=torch.float64)
        target = torch.linspace(first, first + gap, self.target_views + 2, dtype=torch.float64)
        return context.round().long(), target[1:-1].round().long()


class ArbitraryViewSampler(VaryingViewSampler):
    """Context and target views drawn from all frames of a scene, no frame twice.

    Args:
        context_views: Number of context views; [min, max] draws another one every optimizer step.
        target_views: Number of target views.
    """

    def __init__(self, context_views: Counts = 2, target_views: int = 1) -> None:
        super().__init__(context_views, least=1)
        if target_views < 1:
            raise ValueError(f"target_views is {target_views}; it must be at least 1")
        self.target_views = target_views

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        count = self.draw_count(generator)
        if len(scene) < count + self.target_views:
            raise UnsuitableScene("too few frames for the context and target views")
        frames = torch.randperm(len(scene), generator=generator)
        context, target = frames.split([count, len(scene) - count])
        return context.sort().values, target[: self.target_views].sort().values


class AllViewSampler(ViewSampler):
    """Chosen context views; every other frame of the scene is a target.

    Args:
        context: Frame numbers of the context views; negative ones count from the scene's end.
    """

    def __init__(self, context: list[int] = [0, -1]) -> None:  # noqa: B006 (only read)
        if not context:
            raise ValueError("context is empty; name at least one frame")
        self.context = list(context)

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        frames = range(len(scene))
        try:
            context = [frames[index] for index in self.context]
        except IndexError:
            raise UnsuitableScene("too few frames for the chosen context views") from None
        target = [frame for frame in frames if frame not in context]
        if not target or len(set(context)) < len(context):
            raise UnsuitableScene("too few frames for the chosen context views")
        return torch.tensor(context), torch.tensor(target)


def draw_between(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
