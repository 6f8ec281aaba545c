"""Depth of photographs by plane sweeps over their neighbours, checked by one another.

A depth counts where at least two other photographs' sweeps found the same (one, where there are but
two photographs); the rest are holes. Each photograph is compared with a few others, so that time
and memory grow with their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.geometry.plane_sweep import sweep_depth
from mvsplat.geometry.view_groups import measure_views, neighbours, partner_worth
from mvsplat.refinement.merging import DepthView
from mvsplat.refinement.photographs import Photograph

_SIDE = 128  # pixels of the longer side of what is swept; depths are at every second
_PARTNERS = 4
_COMPARED = 8
_AGREEING, _CLOSE = 2, 0.02  # views that must find the depth, within this share of it
_SURFACE = 0.05  # share of the depth by which neighbouring pixels of one surface may differ
_REPEATED = 0.03

Progress = Callable[[int, int], None]
"""Is told how many photographs are done, and of how many."""


class Stereo:
    """Depth of some photographs, where several agree.

    Attributes:
        views: Every photograph, small, with its depth; 0 where it is not known.
        compared: Of each view the others that show most of its content, best first.
    """

    def __init__(self, views: list[DepthView], compared: list[Int[Tensor, " _m"]]) -> None:
        self.views = views
        self.compared = compared

    def points(self) -> Float[Tensor, "p 3"]:
        """World positions of all depths, but for those that an earlier view has, too."""
        kept = []
        for number, view in enumerate(self.views):
            points = view.points()
            new = view.depth.flatten() > 0
            for other in self.compared[number].tolist():
                if other < number:
                    new &= ~self.views[other].look(points).agrees_within(_REPEATED)
            kept.append(points[new])
        return torch.cat(kept)


@torch.no_grad()
def sweep_photographs(
    photographs: Sequence[Photograph],
    near: float,
    far: float,
    points: Float[Tensor, "p 3"] | None = None,
    progress: Progress = lambda done, total: None,
) -> Stereo:
    """Depth of two photographs or more, from nothing but these and their cameras.

    Args:
        photographs: With cameras.
        near: Nearest depth that is looked for.
        far: Farthest depth.
        points: Sparse points of the scene, which tell what photographs share.
        progress: Is told after each photograph, and may raise what ends the work.
    """
    small = [photograph.fitted(_SIDE) for photograph in photographs]
    extrinsics = torch.stack([photograph.extrinsics for photograph in small])
    intrinsics = torch.stack([photograph.intrinsics for photograph in small])
    grey = [photograph.pixels.float().mean(dim=0) / 255 for photograph in small]
    pairs = measure_views(extrinsics.float(), intrinsics.float(), near, far, points)
    partners = partner_worth(pairs).topk(min(_PARTNERS, len(small) - 1), dim=1).indices
    views = []
    for number, photograph in enumerate(small):
        group = [number, *partners[number].tolist()]
        depth = sweep_depth(
            [grey[member] for member in group], extrinsics[group], intrinsics[group], near, far
        )
        views.append(_every_second(photograph, depth))
        progress(number + 1, len(small))
    compared = neighbours(pairs, _COMPARED)
    checked = [_checked(number, views, compared[number]) for number in range(len(views))]
    finer = [_finer(view, photograph) for view, photograph in zip(checked, small, strict=True)]
    return Stereo(finer, compared)


def _every_second(photograph: Photograph, depth: Float[Tensor, "h2 w2"]) -> DepthView:
    """A view of every second row and column, whose pixels' centres are where they were."""
    if photograph.mask is not None:
        depth = depth.where(photograph.mask[::2, ::2], 0)
    moved = torch.eye(3, dtype=photograph.intrinsics.dtype)
    for axis, (full, half) in enumerate(zip(photograph.shape[::-1], depth.shape[::-1])):
        moved[axis, axis], moved[axis, 2] = full / (2 * half), 0.25 / half
    pixels = photograph.pixels[:, ::2, ::2]
    return DepthView(pixels, depth, photograph.extrinsics, moved @ photograph.intrinsics)


def _checked(number: int, views: list[DepthView], others: Int[Tensor, " m"]) -> DepthView:
    """A view with those of its depths that others find, too."""
    view = views[number]
    points = view.points()
    agreeing = torch.zeros(len(points))
    for other in others.tolist():
        agreeing += views[other].look(points).agrees_within(_CLOSE)
    enough = agreeing >= min(_AGREEING, len(views) - 1)
    return replace(view, depth=view.depth.where(enough.view_as(view.depth), 0))


def _finer(view: DepthView, photograph: Photograph) -> DepthView:
    """The photograph's own pixels with depth between those that were found, where these are of one
    surface."""
    spread = [_spread(*lengths) for lengths in zip(photograph.shape, view.depth.shape)]
    (top, down), (left, right) = spread
    corners, weights = [], []
    for row, by_row in ((top, 1 - down), (top + 1, down)):
        for column, by_column in ((left, 1 - right), (left + 1, right)):
            row, column = (x.clamp(max=n - 1) for x, n in zip((row, column), view.depth.shape))
            corners.append(view.depth[row][:, column])
            weights.append(by_row[:, None] * by_column)
    found, weight = torch.stack(corners), torch.stack(weights)  # [4, h, w]
    nearest = found.gather(0, weight.argmax(dim=0)[None])[0]
    weight = weight * ((found / nearest.clamp(min=1e-12) - 1).abs() < _SURFACE)
    depth = (weight * found).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-12)
    known = nearest > 0
    if photograph.mask is not None:
        known &= photograph.mask
    return DepthView(
        photograph.pixels,
        depth.where(known, 0),
        photograph.extrinsics,
        photograph.intrinsics,
    )


def _spread(fine: int, coarse: int) -> tuple[Int[Tensor, " fine"], Float[Tensor, " fine"]]:
    """Of every pixel in a row the one at or before it of every second, and how far it is on."""
    place = (torch.arange(fine) / 2).clamp(max=coarse - 1)
    return place.long(), place - place.long()
