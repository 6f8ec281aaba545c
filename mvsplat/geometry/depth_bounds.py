"""Depth bounds of a set of cameras: from points they see, or from the cameras alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.overlap import compare_views, frustum_points
from mvsplat.geometry.projection import homogeneous, invert_rigid

_PERCENTILES = (1.0, 99.0)
_FEWEST_POINTS = 20
_MOST_POINTS = 20_000

_KEY_CAMERAS = 10
_LEAST_OVERLAP = 1 / 3
_RATIOS = (10.0, 100.0)


def bounds_from_points(
    points: Float[Tensor, "p 3"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    room: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, float] | None:
    """Robust bounds of the points' depths in the views that have them in their frame.

    Args:
        points: World positions; those that are not finite do not count.
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
        room: Factors of the nearest and the farthest depth, for what has no points.

    Returns:
        The 1st and the 99th percentile over all views, times ``room``; None if the views see fewer
        than 20 points.
    """
    points = points[points.isfinite().all(-1)].double()
    if len(points) > _MOST_POINTS:
        chosen = torch.linspace(0, len(points) - 1, _MOST_POINTS, dtype=torch.float64).long()
        points = points[chosen]
    project = intrinsics.double() @ invert_rigid(extrinsics.double())[:, :3]
    depths = []
    for matrix in project:
        x, y, z = (homogeneous(points) @ matrix.mT).unbind(-1)
        depths.append(z[(z > 0) & (x >= 0) & (y >= 0) & (x <= z) & (y <= z)])
    seen = torch.cat(depths)
    if len(seen) < _FEWEST_POINTS:
        return None
    low, high = percentiles(seen)
    return low * room[0], high * room[1]


def percentiles(depths: Float[Tensor, " n"]) -> tuple[float, float]:
    """The 1st and the 99th percentile, which a few wrong depths do not move."""
    low, high = (_percentile(depths, percent) for percent in _PERCENTILES)
    return low, high


def bounds_from_cameras(
    extrinsics: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]
) -> tuple[float, float]:
    """Depths at which neighbouring cameras see each other's picture: a guess, in lack of points.

    Photographs are taken so that neighbours share what matters. Of ten cameras that are spread over
    all of them (a video's frames are arbitrarily close together), each is compared with its nearest
    neighbour: ``near`` is the nearest depth at which half of these pairs share a third of their
    picture, ``far`` the farthest, but 10 to 100 times ``near``.

    Raises:
        ValueError: All cameras stand at one place, or they look away from each other.
    """
    chosen = spread_cameras(extrinsics[:, :3, 3], _KEY_CAMERAS)
    extrinsics, intrinsics = extrinsics[chosen], intrinsics[chosen]
    centres = extrinsics[:, :3, 3].double()
    distance = torch.cdist(centres, centres).fill_diagonal_(math.inf)
    if len(chosen) < 2:
        raise ValueError("its cameras all stand at one place, which tells nothing of depth")
    step, neighbour = distance.min(1)
    unit = float(step.median())
    depths = unit * torch.logspace(-1, 3, 65, dtype=torch.float64)
    shared = []
    for depth in depths.tolist():
        shown = frustum_points(extrinsics, intrinsics, depth, depth, depths=1)
        overlap = compare_views(shown, extrinsics, intrinsics).mutual
        shared.append(overlap.gather(1, neighbour[:, None]).median())
    good = depths[torch.stack(shared) >= _LEAST_OVERLAP]
    if not len(good):
        raise ValueError("its cameras do not see each other's picture at any depth")
    near, far = float(good[0]), float(good[-1])
    return near, min(max(far, _RATIOS[0] * near), _RATIOS[1] * near)


def spread_cameras(centres: Float[Tensor, "n 3"], count: int) -> list[int]:
    """At most so many cameras, far from each other: farthest-point sampling from the first one.

    Cameras that stand where a chosen one stands are never chosen.
    """
    centres = centres.double()
    chosen = [0]
    distance = (centres - centres[0]).norm(dim=-1)
    extent = float(distance.max())
    while len(chosen) < count and float(distance.max()) > 1e-6 * max(extent, 1e-12):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (centres - centres[chosen[-1]]).norm(dim=-1))
    return sorted(chosen)


def _percentile(values: Float[Tensor, " n"], percent: float) -> float:
    """Nearest-rank percentile; torch.quantile refuses large tensors."""
    rank = min(max(math.ceil(percent / 100 * len(values)), 1), len(values))
    return float(values.kthvalue(rank).values)
