"""Gaussians to start from at points of the scene (as in Kerbl et al., "3-D Gaussian splatting")."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.projection import homogeneous, invert_rigid
from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.kernels import kernel
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

_ENTRIES = 2**23  # points times photographs at a time
# Lone points have neighbours far away: nothing is larger than this many times the median.
_LARGEST = 10.0


def gaussians_from_points(
    points: Float[Tensor, "p 3"],
    photographs: Sequence[Photograph],
    colors: Float[Tensor, "p 3"] | None = None,
    degree: int = 1,
    opacity: float = 0.1,
    size: float = 1.0,
) -> Gaussians:
    """A ball at every point that a photograph shows, as large as its neighbours are far.

    Args:
        points: World positions; those that are not finite are left out.
        photographs: Tell colours, and which points can be seen.
        colors: In [0, 1], where they are known already.
        degree: Of the spherical harmonics; colours do not depend on the direction at first.
        opacity: Of every Gaussian.
        size: Standard deviation in units of the mean distance to the three nearest neighbours.

    Returns:
        A batch of one scene of at most as many Gaussians.
    """
    finite = points.isfinite().all(dim=-1)
    points = points[finite].float()
    seen, found = colors_of_points(points, photographs)
    known = found if colors is None else colors[finite].float()
    points, known = points[seen], known[seen]
    distances = neighbour_distances(points)
    if len(distances):
        distances = distances.clamp(max=_LARGEST * float(distances.median()))
    harmonics = torch.zeros(len(points), 3, (degree + 1) ** 2)
    harmonics[..., 0] = (known - 0.5) / normalization(0, 0)
    return Gaussians(
        means=points[None],
        scales=(size * distances).clamp(min=1e-12)[None, :, None].repeat(1, 1, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(1, len(points), 1),
        harmonics=harmonics[None],
        opacities=torch.full((1, len(points)), opacity),
    )


class PointColors(NamedTuple):
    """Whether any photograph has a point in its frame, and the median of what they show there."""

    seen: Tensor
    color: Tensor


def colors_of_points(
    points: Float[Tensor, "p 3"], photographs: Sequence[Photograph]
) -> PointColors:
    """Colours of points in the photographs; the median leaves out those that see something else."""
    step = max(1, _ENTRIES // max(1, len(photographs)))
    parts = [_colors(part, photographs) for part in points.split(step)]
    if not parts:
        return PointColors(torch.zeros(0, dtype=torch.bool), torch.zeros(0, 3))
    return PointColors(*(torch.cat(x) for x in zip(*parts, strict=True)))


def _colors(points: Float[Tensor, "p 3"], photographs: Sequence[Photograph]) -> PointColors:
    shown = points.new_full((len(photographs), len(points), 3), torch.nan)
    for row, photograph in zip(shown, photographs, strict=True):
        height, width = photograph.shape
        project = photograph.intrinsics.double() @ invert_rigid(photograph.extrinsics.double())[:3]
        x, y, z = (homogeneous(points.double()) @ project.mT).unbind(-1)
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < z) & (y < z)
        at = inside.nonzero()[:, 0]
        columns = (x[at] / z[at] * width).long().clamp(max=width - 1)
        rows = (y[at] / z[at] * height).long().clamp(max=height - 1)
        if photograph.mask is not None:
            counted = photograph.mask[rows, columns]
            at, rows, columns = at[counted], rows[counted], columns[counted]
        row[at] = photograph.pixels[:, rows, columns].mT.float() / 255
    color = shown.nanmedian(dim=0).values
    return PointColors(color.isfinite().all(dim=-1), color.nan_to_num(0.5))


def neighbour_distances(points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
    """Mean distance from each point to its three nearest others, fewer if there are not so many;
    1 for a single point.
    """
    if len(points) < 2:
        return torch.ones(len(points))
    # Along the axis of the widest spread, neighbours are close in order.
    positions = points.double().numpy()
    axis = int(np.argmax(positions.std(axis=0)))
    order = np.argsort(positions[:, axis], kind="stable")
    ordered = np.ascontiguousarray(np.roll(positions[order], -axis, axis=1))
    found = np.empty(len(ordered))
    _three_nearest(ordered, np.empty(3), found)
    result = np.empty_like(found)
    result[order] = found
    return torch.from_numpy(result).float()


@kernel
def _three_nearest(points, nearest, found):
    """Mean distance to the three nearest of points in order of their first coordinate."""
    count = len(points)
    for i in range(count):
        nearest[:] = np.inf
        below, above = i - 1, i + 1
        while below >= 0 or above < count:
            to_below = points[i, 0] - points[below, 0] if below >= 0 else np.inf
            to_above = points[above, 0] - points[i, 0] if above < count else np.inf
            if min(to_below, to_above) ** 2 >= nearest[2]:
                break
            if to_below <= to_above:
                j = below
                below -= 1
            else:
                j = above
                above += 1
            squared = 0.0
            for k in range(3):
                squared += (points[i, k] - points[j, k]) ** 2
            if squared < nearest[0]:
                nearest[2] = nearest[1]
                nearest[1] = nearest[0]
                nearest[0] = squared
            elif squared < nearest[1]:
                nearest[2] = nearest[1]
                nearest[1] = squared
            elif squared < nearest[2]:
                nearest[2] = squared
        total, known = 0.0, 0
        for k in range(3):
            if nearest[k] < np.inf:
                total += np.sqrt(nearest[k])
                known += 1
        found[i] = total / known
