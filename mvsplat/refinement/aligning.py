"""A network's Gaussians, moved along their rays to where measured points say that surfaces are.

A network's errors in depth change slowly over a photograph. The ratio of measured to predicted
depth is known at points; in between it is a blurred mean of their logarithms, first over large
parts of the photograph, then what is left over smaller ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.projection import homogeneous, invert_rigid
from mvsplat.refinement.merging import DepthView, Merged

_SPREADS = (1 / 5, 1 / 10, 1 / 20, 1 / 40)  # of the blurs, in longer sides
_OUTLIER = 3.0  # times the median of what is left: a point that the photograph does not see
_LEAST = 0.02  # of what is left, which is no outlier
_ENOUGH = 1.0  # points under a blur that count as much as to leave things as they are
_FEWEST = 20


def aligned(predicted: Merged, views: Sequence[DepthView], points: Float[Tensor, "p 3"]) -> Merged:
    """The Gaussians, moved away from or towards the cameras of their photographs, and scaled.

    Args:
        predicted: A network's Gaussians.
        views: Of each photograph the depth that the network predicted.
        points: Points of surfaces.
    """
    scene = predicted.gaussians
    means, factors = scene.means.clone(), torch.ones(scene.means.shape[1])
    for number, view in enumerate(views):
        mine = (predicted.photograph == number).nonzero()[:, 0]
        ratio = depth_ratio(view, points)
        if ratio is None or not len(mine):
            continue
        places = means[0, mine]
        x, y, _ = _project(view, places)
        height, width = ratio.shape
        column = (x * width).long().clamp(0, width - 1)
        row = (y * height).long().clamp(0, height - 1)
        factors[mine] = ratio[row, column]
        center = view.extrinsics[:3, 3].to(places)
        means[0, mine] = center + factors[mine, None] * (places - center)
    moved = replace(scene, means=means, scales=scene.scales * factors[None, :, None])
    return replace(predicted, gaussians=moved, pixel=predicted.pixel * factors)


def depth_ratio(view: DepthView, points: Float[Tensor, "p 3"]) -> Float[Tensor, "h w"] | None:
    """Measured in units of predicted depth, everywhere; None where there are too few points."""
    height, width = view.depth.shape
    look = view.look(points)
    seen = look.seen.nonzero()[:, 0]
    if len(seen) < _FEWEST:
        return None
    x, y, _ = _project(view, points[seen])
    column = (x * width).long().clamp(0, width - 1)
    row = (y * height).long().clamp(0, height - 1)
    wanted = look.ratio[seen].log()
    found = torch.full((height, width), float(wanted.median()))
    for spread in _SPREADS:
        left = wanted - found[row, column]
        good = left.abs() < _OUTLIER * max(float(left.abs().median()), _LEAST)
        at = row[good], column[good]
        total, count = (
            torch.zeros(height, width).index_put_(at, values, accumulate=True)
            for values in (left[good], torch.ones(int(good.sum())))
        )
        sigma = max(1.0, spread * max(height, width))
        under = 2 * torch.pi * sigma**2  # a blur's area: sums in place of means
        found += under * _blurred(total, sigma) / (under * _blurred(count, sigma) + _ENOUGH)
    return found.exp()


def _project(view: DepthView, points: Float[Tensor, "p 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised image coordinates and depth."""
    project = view.intrinsics.double() @ invert_rigid(view.extrinsics.double())[:3]
    x, y, z = (homogeneous(points.double()) @ project.mT).unbind(-1)
    return x / z.clamp(min=1e-12), y / z.clamp(min=1e-12), z


def _blurred(values: Float[Tensor, "h w"], sigma: float) -> Float[Tensor, "h w"]:
    reach = int(3 * sigma) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype)
    kernel = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0)
    across = F.conv2d(values[None, None], kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(across, kernel.view(1, 1, -1, 1), padding=(reach, 0))[0, 0]
