"""Ways to choose the context and target views that a scene is evaluated on.

A choice is made once, from the scene's cameras and depth, and written to an evaluation index.
Derive from :class:`ContextChoice` to add a way of your own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.configurable import Configurable
from mvsplat.data.evaluation_index.scene_overlap import SceneOverlap
from mvsplat.data.faults import UnsuitableScene
from mvsplat.geometry.view_choice import best_context

Targets = int | Literal["all"]


@dataclass(frozen=True)
class EvaluationRun:
    """One evaluation of a scene: frame numbers in ascending order, and the group it belongs to."""

    context: list[int]
    target: list[int]
    tier: str | None = None


class ContextChoice(Configurable, ABC):
    """Chooses a scene's context and target views, for one or several runs."""

    @property
    @abstractmethod
    def has_several_runs(self) -> bool:
        """Whether a scene may have several runs; if not, a run is called what the scene is."""

    @abstractmethod
    def runs(self, scene: SceneOverlap, generator: torch.Generator) -> list[EvaluationRun]:
        """The runs of a scene.

        Args:
            scene: Its cameras and how much they show of the same.
            generator: The only source of randomness, a function of the seed and the scene.

        Raises:
            UnsuitableScene: There are no such views; it is left out and counted by the reason.
        """


class WholeScene(ContextChoice):
    """The context views that reconstruct most of a scene, whatever way it was captured.

    Context views are chosen in pairs that overlap and have parallax, and that together see as much
    as possible; nothing is random but the targets. Fits photos in any order, too.

    Args:
        context_views: Number of context views.
        targets: Number of target views, drawn from the frames that the context views cover, none
            twice; "all" takes all of these.
        min_coverage: Least share of a target view that the context views must show.
    """

    def __init__(
        self,
        context_views: int = 2,
        targets: int | Literal["all"] = 3,
        min_coverage: float = 0.6,
    ) -> None:
        check_counts(context_views=(context_views, 1), targets=(targets, 1))
        check_share(min_coverage=min_coverage)
        self.context_views = context_views
        self.targets = targets
        self.min_coverage = min_coverage

    @property
    def has_several_runs(self) -> bool:
        return False

    def runs(self, scene: SceneOverlap, generator: torch.Generator) -> list[EvaluationRun]:
        if len(scene) < self.context_views + (1 if self.targets == "all" else self.targets):
            raise UnsuitableScene("too few frames for the context and target views")
        context = best_context(scene.pairs, self.context_views)
        others = [frame for frame in range(len(scene)) if frame not in context]
        target = draw_covered(scene, context, others, self.targets, self.min_coverage, generator)
        if target is None:
            raise UnsuitableScene("the context views cover too few other views")
        return [EvaluationRun(context.tolist(), target)]


class NearestViews(ContextChoice):
    """For target views spread over the scene, the context views nearest to each, as usual on DTU.

    Near are cameras that are close together, among those that show part of what the target shows
    and from its side. Targets with the same context views share a run.

    Args:
        context_views: Number of context views.
        targets: Number of target views a scene, evenly spread over its frames; "all": every frame
            in turn.
        min_overlap: Least share of the target view that each context view must show.
        max_angle: Greatest angle in degrees from which a context view may see what they share.
    """

    def __init__(
        self,
        context_views: int = 2,
        targets: int | Literal["all"] = 4,
        min_overlap: float = 0.1,
        max_angle: float = 60.0,
    ) -> None:
        check_counts(context_views=(context_views, 1), targets=(targets, 1))
        check_share(min_overlap=min_overlap)
        check_angle(max_angle)
        self.context_views = context_views
        self.targets = targets
        self.min_overlap = min_overlap
        self.max_angle = max_angle

    @property
    def has_several_runs(self) -> bool:
        return self.targets != 1

    def runs(self, scene: SceneOverlap, generator: torch.Generator) -> list[EvaluationRun]:
        count = len(scene) if self.targets == "all" else min(self.targets, len(scene))
        if len(scene) <= self.context_views:
            raise UnsuitableScene("too few frames for the context and target views")
        near = (scene.pairs.overlap >= self.min_overlap) & (scene.pairs.angle <= self.max_angle)
        distance = scene.pairs.baseline.where(near, torch.inf).fill_diagonal_(torch.inf)
        # Stable: where cameras are evenly spaced, of two at the same distance the earlier is taken.
        order = distance.sort(dim=1, stable=True)
        reached = order.values[:, self.context_views - 1].isfinite()
        of_context: dict[tuple[int, ...], list[int]] = {}
        parts = torch.linspace(0, len(scene), count + 1, dtype=torch.float64).round().long()
        for first, end in zip(parts[:-1].tolist(), parts[1:].tolist(), strict=True):
            # One of each part of the scene, so that targets are random and yet spread over it.
            choices = (first + reached[first:end].nonzero()[:, 0]).tolist()
            for target in draw_frames(choices, 1, generator) or []:
                nearest = sorted(order.indices[target, : self.context_views].tolist())
                of_context.setdefault(tuple(nearest), []).append(target)
        if not of_context:
            raise UnsuitableScene("no frame has enough other views that show the same")
        return [EvaluationRun(list(context), target) for context, target in of_context.items()]


def draw_covered(
    scene: SceneOverlap,
    context: Int[Tensor, " v"],
    frames: list[int],
    targets: Targets,
    min_coverage: float,
    generator: torch.Generator,
) -> list[int] | None:
    """So many of the frames that the context views cover; None if there are too few."""
    coverage = scene.coverage(torch.tensor(frames, dtype=torch.long), by=context).tolist()
    enough = [f for f, share in zip(frames, coverage, strict=True) if share >= min_coverage]
    return draw_frames(enough, targets, generator)


def draw_frames(frames: list[int], count: Targets, generator: torch.Generator) -> list[int] | None:
    """So many of the frames, none twice, in ascending order; None if there are too few."""
    if not frames or (count != "all" and len(frames) < count):
        return None
    if count == "all":
        return frames
    chosen = torch.randperm(len(frames), generator=generator)[:count].sort().values
    return [frames[place] for place in chosen.tolist()]


def check_counts(**counts: tuple[int | str, int]) -> None:
    for name, (value, least) in counts.items():
        if isinstance(value, int) and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


def check_angle(max_angle: float) -> None:
    if not 0 < max_angle <= 180:
        raise ValueError(f"max_angle is {max_angle}; expected degrees between 0 and 180")


def check_share(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected 0 to 1")
