"""Context views at the ends of a video's stretches: by their overlap, or by the frames between."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.data.evaluation_index.context_choice import (
    ContextChoice,
    EvaluationRun,
    Targets,
    check_angle,
    check_counts,
    check_share,
    draw_covered,
)
from mvsplat.data.evaluation_index.scene_overlap import SceneOverlap
from mvsplat.data.faults import UnsuitableScene

_MOST_TRIES = 100  # stretches of a tier whose targets are looked at

# Overlap of two images in the papers that evaluate by it: Ye et al., "No Pose, No Problem", 2024.
_TIERS = {"small": (0.05, 0.3), "medium": (0.3, 0.55), "large": (0.55, 0.8)}


class OverlapTiers(ContextChoice):
    """Stretches of a video whose context views overlap little, more, or much.

    For every tier a stretch is drawn from all that are in it; its ends are context views. With
    several tiers or runs, a scene occurs several times in the index.

    Args:
        context_views: Number of context views; those beyond two lie evenly between the outer two.
        targets: Number of target views, drawn from the frames between the context views, none
            twice; "all" takes every frame of the stretch, as for a video.
        tiers: Name to the least (exclusive) and the greatest overlap of the context views.
        runs: Stretches of every tier.
        min_gap: Smallest number of frames from the first to the last context view.
        max_gap: Largest such number; null: no limit.
        max_angle: Greatest angle in degrees from which the outer context views see what they share.
        min_coverage: Least share of a target view that the context views must show.
    """

    def __init__(
        self,
        context_views: int = 2,
        targets: int | Literal["all"] = 3,
        tiers: dict[str, tuple[float, float]] = _TIERS,  # noqa: B006 (only read)
        runs: int = 1,
        min_gap: int = 1,
        max_gap: int | None = None,
        max_angle: float = 60.0,
        min_coverage: float = 0.5,
    ) -> None:
        check_counts(context_views=(context_views, 2), targets=(targets, 1), runs=(runs, 1))
        longest = min_gap if max_gap is None else max_gap
        check_counts(min_gap=(min_gap, 1), max_gap=(longest, min_gap))
        check_angle(max_angle)
        check_share(min_coverage=min_coverage)
        if not tiers:
            raise ValueError("tiers is empty; name at least one, as in {large: [0.55, 0.8]}")
        for name, (low, high) in tiers.items():
            if not 0 <= low < high <= 1:
                raise ValueError(
                    f"tier {name!r} is {low} to {high}; expected 0 <= least < greatest <= 1"
                )
        self.context_views = context_views
        self.targets = targets
        self.tiers = {name: (low, high) for name, (low, high) in tiers.items()}
        self.runs_a_tier = runs
        self.min_gap = min_gap
        self.max_gap = max_gap
        self.max_angle = max_angle
        self.min_coverage = min_coverage

    @property
    def has_several_runs(self) -> bool:
        return len(self.tiers) * self.runs_a_tier > 1

    def runs(self, scene: SceneOverlap, generator: torch.Generator) -> list[EvaluationRun]:
        low = max(self.min_gap, _least_gap(self.context_views, self.targets))
        high = min(len(scene) - 1, self.max_gap or len(scene))
        if high < low:
            raise UnsuitableScene("too few frames for the context and target views")
        stretches = _stretches(len(scene), range(low, high + 1), self.context_views)
        angle = scene.pairs.angle[stretches[:, 0], stretches[:, -1]]
        stretches = stretches[~(angle > self.max_angle)]
        overlap = scene.overlap(stretches)
        found = []
        for name, (least, greatest) in self.tiers.items():
            within = stretches[(overlap > least) & (overlap <= greatest)]
            drawn = _draw_stretches(
                scene, within, self.targets, self.min_coverage, self.runs_a_tier, generator
            )
            found += [EvaluationRun(context, target, name) for context, target in drawn]
        if not found:
            raise UnsuitableScene("no stretch overlaps as the tiers ask") from _spread_of(overlap)
        return found


class FrameGaps(ContextChoice):
    """Stretches of a video of given lengths; a tier for every length.

    Args:
        context_views: Number of context views; those beyond two lie evenly between the outer two.
        targets: Number of target views, drawn from the frames between the context views, none
            twice; "all" takes every frame of the stretch, as for a video.
        gaps: Numbers of frames from the first to the last context view. A scene that is too short
            for some is used with the others.
        runs: Stretches of every length, at different places.
        start: The frame that all stretches begin with, as in DepthSplat's indices of DL3DV (0);
            null draws it.
        min_overlap: Leave out stretches whose context views overlap less.
        min_coverage: Least share of a target view that the context views must show.
    """

    def __init__(
        self,
        context_views: int = 2,
        targets: int | Literal["all"] = 3,
        gaps: list[int] = [15, 45, 90],  # noqa: B006 (only read)
        runs: int = 1,
        min_overlap: float = 0.0,
        min_coverage: float = 0.5,
        start: int | None = None,
    ) -> None:
        check_counts(context_views=(context_views, 2), targets=(targets, 1), runs=(runs, 1))
        check_counts(start=(0 if start is None else start, 0))
        check_share(min_overlap=min_overlap, min_coverage=min_coverage)
        if start is not None and runs > 1:
            raise ValueError(f"runs is {runs}, but from frame {start} on there is one of a length")
        room = _least_gap(context_views, targets)
        if not gaps or min(gaps) < room:
            raise ValueError(
                f"gaps is {list(gaps)}; expected numbers of at least {room}, so that there are "
                "frames for all context and target views"
            )
        self.context_views = context_views
        self.targets = targets
        self.gaps = sorted(set(gaps))
        self.runs_a_gap = runs
        self.start = start
        self.min_overlap = min_overlap
        self.min_coverage = min_coverage

    @property
    def has_several_runs(self) -> bool:
        return len(self.gaps) * self.runs_a_gap > 1

    def runs(self, scene: SceneOverlap, generator: torch.Generator) -> list[EvaluationRun]:
        gaps = [gap for gap in self.gaps if gap + (self.start or 0) < len(scene)]
        if not gaps:
            raise UnsuitableScene("too few frames for the context and target views")
        stretches = {gap: _stretches(len(scene), [gap], self.context_views) for gap in gaps}
        found = []
        if self.start is not None:
            stretches = {gap: every[self.start, None] for gap, every in stretches.items()}
        for gap, all_of_gap in stretches.items():
            within = all_of_gap[scene.overlap(all_of_gap) >= self.min_overlap]
            drawn = _draw_stretches(
                scene, within, self.targets, self.min_coverage, self.runs_a_gap, generator
            )
            found += [EvaluationRun(context, target, f"gap {gap}") for context, target in drawn]
        if not found:
            overlap = scene.overlap(torch.cat(list(stretches.values())))
            raise UnsuitableScene("no stretch overlaps enough") from _spread_of(overlap)
        return found


def _stretches(frames: int, gaps: Sequence[int], views: int) -> Int[Tensor, "s v"]:
    """All ways to lay evenly spaced context views over as many frames as one of the gaps."""
    part = torch.linspace(0, 1, views, dtype=torch.float64)
    return torch.cat(
        [torch.arange(frames - gap)[:, None] + (gap * part).round().long() for gap in gaps]
    )


def _least_gap(views: int, targets: Targets) -> int:
    """The smallest gap with room for the inner context views and the targets between."""
    return views - 1 + (0 if targets == "all" else int(targets))


def _draw_stretches(
    scene: SceneOverlap,
    stretches: Int[Tensor, "s v"],
    targets: Targets,
    min_coverage: float,
    count: int,
    generator: torch.Generator,
) -> list[tuple[list[int], list[int]]]:
    """Context and target views of so many of the stretches, or of fewer; each at most once."""
    found: list[tuple[list[int], list[int]]] = []
    for place in torch.randperm(len(stretches), generator=generator)[:_MOST_TRIES].tolist():
        context = stretches[place]
        stretch = range(int(context[0]), int(context[-1]) + 1)
        if targets == "all":
            found.append((context.tolist(), list(stretch)))
        else:
            between = [frame for frame in stretch if frame not in context]
            drawn = draw_covered(scene, context, between, targets, min_coverage, generator)
            if drawn is not None:
                found.append((context.tolist(), drawn))
        if len(found) == count:
            break
    return found


def _spread_of(overlap: Float[Tensor, " s"]) -> ValueError:
    """For messages: what overlap there is."""
    if not len(overlap):
        return ValueError("all context views see what they share from too different sides")
    low, high = float(overlap.min()), float(overlap.max())
    return ValueError(f"context views overlap by {low:.2f} to {high:.2f} here")
