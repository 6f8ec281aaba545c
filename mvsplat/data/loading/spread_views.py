"""Context views spread over a stretch of a scene, for training on many of them."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.view_samplers import BoundedViewSampler, Counts, draw_between
from mvsplat.data.scene import Scene
from mvsplat.geometry.depth_bounds import spread_cameras

Spread = Literal["farthest", "even", "random", "nearest"]


class SpreadViewSampler(BoundedViewSampler):
    """Context views of varying number, spread over a stretch of frames of bounded length.

    DepthSplat was trained so on DL3DV (Xu et al., CVPR 2025), whose videos wander: neither do their
    cameras move evenly nor only onwards. A stretch has [min_gap, max_gap] frames from its first to
    its last one, drawn uniformly; both bounds change linearly from their initial to their final
    value over the warm-up. Targets are drawn from all its frames, none twice.

    Args:
        context_views: Number of context views, at least 2; [min, max] draws another number every
            optimizer step.
        target_views: Number of target views; one of them can be a context view.
        min_gap: Smallest number of frames from the first to the last one of a stretch.
        max_gap: Largest such number; a shorter scene lowers it.
        spread: Where the context views are. farthest: the stretch's first frame and, one after the
            other, the one whose camera is farthest from those chosen. even: evenly spaced frames
            from the first to the last. random: the first, the last, and frames drawn between them.
            nearest: as farthest, but the stretch is of the frames whose cameras are nearest to a
            drawn one's, whenever they were taken, and begins with that.
        targets_beyond: Targets can be so many frames before the stretch, and behind it.
        initial_min_gap: min_gap at step 0; null: the same as min_gap.
        initial_max_gap: max_gap at step 0; null: the same as max_gap.
        warm_up_steps: Optimizer steps over which the bounds change; 0: they are final at once.
    """

    def __init__(
        self,
        context_views: Counts = (2, 6),
        target_views: int = 4,
        min_gap: int = 20,
        max_gap: int = 50,
        spread: Spread = "farthest",
        targets_beyond: int = 0,
        initial_min_gap: int | None = None,
        initial_max_gap: int | None = None,
        warm_up_steps: int = 0,
    ) -> None:
        super().__init__(
            context_views,
            target_views,
            min_gap,
            max_gap,
            initial_min_gap,
            initial_max_gap,
            warm_up_steps,
        )
        least = min(self.min_gaps)
        if target_views > least + 1:
            raise ValueError(
                f"target_views is {target_views}, more than the {least + 1} frames of the shortest "
                "stretch"
            )
        if targets_beyond < 0:
            raise ValueError(f"targets_beyond is {targets_beyond}; it cannot be negative")
        if spread == "nearest" and targets_beyond:
            raise ValueError("targets_beyond is for stretches of a video, not for spread: nearest")
        self.spread = spread
        self.targets_beyond = targets_beyond

    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        count = self.draw_count(generator)
        low, high = self.gap_bounds(step)
        high = min(high, len(scene) - 1)
        if high < low:
            raise UnsuitableScene("too few frames for the gap between context views")
        gap = draw_between(low, high, generator)
        if self.spread == "nearest":
            stretch = _around(scene, draw_between(0, len(scene) - 1, generator), gap + 1)
            targets: Sequence[int] = stretch
        else:
            first = draw_between(0, len(scene) - 1 - gap, generator)
            stretch = list(range(first, first + gap + 1))
            beyond = self.targets_beyond
            targets = range(max(0, first - beyond), min(len(scene), stretch[-1] + beyond + 1))
        context = torch.tensor(
            [stretch[place] for place in self._places(scene, stretch, count, generator)]
        )
        chosen = torch.randperm(len(targets), generator=generator)[: self.target_views]
        return context.sort().values, torch.tensor(targets)[chosen].sort().values

    def _places(
        self, scene: Scene, stretch: list[int], count: int, generator: torch.Generator
    ) -> list[int]:
        """Which frames of a stretch are context views."""
        last = len(stretch) - 1
        if self.spread == "even":
            spaced = torch.linspace(0, last, count, dtype=torch.float64)
            return spaced.round().long().tolist()
        if self.spread == "random":
            between = 1 + torch.randperm(last - 1, generator=generator)[: count - 2]
            return [0, *between.tolist(), last]
        chosen = spread_cameras(scene.extrinsics[stretch, :3, 3], count)
        if len(chosen) < count:
            raise UnsuitableScene("the camera was at too few places for the context views")
        return chosen


def _around(scene: Scene, center: int, count: int) -> list[int]:
    """So many frames whose cameras are nearest to one's, that one first."""
    places = scene.extrinsics[:, :3, 3].double()
    distance = (places - places[center]).norm(dim=-1)
    distance[center] = -1.0  # others may have been taken at the same place
    return distance.argsort(stable=True)[:count].tolist()
