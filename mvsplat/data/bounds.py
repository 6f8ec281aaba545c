"""Depth bounds of scenes that have none: from their sparse points, or from their cameras.

The encoder looks for depth between ``near`` and ``far``, evenly in disparity (1 / depth). A near
bound that is too close costs resolution, one that is too far cuts the foreground off; the far bound
matters less, as distant depths share few disparities.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.scenes import Scene
from mvsplat.geometry.overlap import compare_views, frustum_points
from mvsplat.geometry.projection import homogeneous, invert_rigid

# Sparse points lie on what has texture: leave room for what is nearer and farther than they are.
_PERCENTILES = (1.0, 99.0)
_ROOM = (0.8, 1.5)
_FEWEST_POINTS = 20
_MOST_POINTS = 20_000

_KEY_CAMERAS = 10
_LEAST_OVERLAP = 1 / 3
_RATIOS = (10.0, 100.0)


class UnknownBounds(ValueError):
    """Neither points nor cameras tell a scene's depths."""


class Bounds(NamedTuple):
    """Depth bounds and what they rest on: "the data", "sparse points", "cameras" or "given"."""

    near: float
    far: float
    origin: str


def find_bounds(scene: Scene, near: float | None = None, far: float | None = None) -> Bounds:
    """A scene's bounds: the given ones, else its own, else from its points, else its cameras.

    Args:
        scene: Its own bounds count as a pair.
        near: Given nearest depth.
        far: Given farthest depth.

    Raises:
        UnknownBounds: Neither points nor cameras tell.
        ValueError: near is not smaller than far. Both name the scene.
    """
    if near is not None and far is not None:
        found = Bounds(near, far, "given")
    elif scene.near is not None and scene.far is not None:
        found = Bounds(scene.near, scene.far, "the data")
    else:
        found = estimate_bounds(scene)
    result = Bounds(
        found.near if near is None else near, found.far if far is None else far, found.origin
    )
    if not 0 < result.near < result.far < math.inf:
        raise ValueError(
            f"near is {result.near} and far is {result.far} in {scene.key!r}; expected near < far"
        )
    return result


def estimate_bounds(scene: Scene) -> Bounds:
    """Bounds from a scene's sparse points, or, if it has too few, from its cameras.

    Raises:
        UnknownBounds: Neither tells: the cameras all stand at one place, or look away from each
            other.
    """
    points = scene.points
    if points is not None:
        found = bounds_from_points(points, scene.extrinsics, scene.intrinsics)
        if found is not None:
            return Bounds(*found, "sparse points")
    try:
        return Bounds(*bounds_from_cameras(scene.extrinsics, scene.intrinsics), "cameras")
    except ValueError as error:
        raise UnknownBounds(
            f"scene {scene.key!r} has no depth bounds, and {error}; give near and far"
        ) from error


def bounds_from_points(
    points: Float[Tensor, "p 3"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
) -> tuple[float, float] | None:
    """Robust bounds of the points' depths in the views that have them in their frame.

    Returns:
        0.8 times the 1st and 1.5 times the 99th percentile over all views; None if the views see
        fewer than 20 points.
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
    low, high = (_percentile(seen, percent) for percent in _PERCENTILES)
    return low * _ROOM[0], high * _ROOM[1]


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


def share_at_bounds(
    depth: Float[Tensor, "*n"], near: Float[Tensor, "*#n"], far: Float[Tensor, "*#n"]
) -> tuple[float, float]:
    """Shares of the depths within 2 % of the disparity range of ``near`` and of ``far``."""
    position = (1 / near - 1 / depth.clamp(min=1e-9)) / (1 / near - 1 / far)
    return float((position < 0.02).float().mean()), float((position > 0.98).float().mean())


def _percentile(values: Float[Tensor, " n"], percent: float) -> float:
    """Nearest-rank percentile; torch.quantile refuses large tensors."""
    rank = min(max(math.ceil(percent / 100 * len(values)), 1), len(values))
    return float(values.kthvalue(rank).values)
