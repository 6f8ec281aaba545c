"""Depth bounds of scenes that have none: from sparse points, from pictures, or from cameras.

The encoder looks for depth between ``near`` and ``far``, evenly in disparity (1 / depth). A near
bound that is too close costs resolution, one that is too far cuts the foreground off; the far bound
matters less, as distant depths share few disparities.
"""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.scene import Scene
from mvsplat.data.triangulation import points_from_pictures
from mvsplat.geometry.depth_bounds import bounds_from_cameras, bounds_from_points

ESTIMATES = ("sparse points", "pictures", "cameras")
"""What estimated bounds can rest on, the best first; a guess from cameras alone may be far off."""

# Points lie on what has texture: leave room for what is nearer and farther than they are, and more
# on the far side where they come from a few small pictures, in which far things are small.
_ROOM = {"sparse points": (0.8, 1.5), "pictures": (0.8, 2.4)}


class UnknownBounds(ValueError):
    """Neither points nor pictures nor cameras tell a scene's depths."""


class Bounds(NamedTuple):
    """Depth bounds and what they rest on: "given", "the data", or one of the estimates."""

    near: float
    far: float
    origin: str


class BoundsEstimate(NamedTuple):
    """Estimated bounds, and the world positions of the points they rest on, if they do."""

    bounds: Bounds
    points: Float[Tensor, "p 3"] | None


def find_bounds(scene: Scene, near: float | None = None, far: float | None = None) -> Bounds:
    """A scene's bounds: the given ones, else its own, else estimated ones.

    Args:
        scene: Its own bounds count as a pair.
        near: Given nearest depth.
        far: Given farthest depth.

    Raises:
        UnknownBounds: Nothing tells.
        ValueError: near is not smaller than far, or a camera makes no sense. All name the scene.
    """
    if near is not None and far is not None:
        found = Bounds(near, far, "given")
    elif scene.near is not None and scene.far is not None:
        found = Bounds(scene.near, scene.far, "the data")
    else:
        found = estimate_bounds(scene).bounds
    return with_given(found, near, far, scene.key)


def with_given(found: Bounds, near: float | None, far: float | None, key: str) -> Bounds:
    """Bounds as found, but for the given ones.

    Raises:
        ValueError: They do not fit together; names the scene.
    """
    result = Bounds(
        found.near if near is None else near, found.far if far is None else far, found.origin
    )
    if not 0 < result.near < result.far < math.inf:
        raise ValueError(
            f"near is {result.near} and far is {result.far} in {key!r}; expected near < far"
        )
    return result


def estimate_bounds(scene: Scene) -> BoundsEstimate:
    """Bounds from a scene's sparse points; if it has too few, from points that are triangulated
    from its pictures; and if these do not match, from its cameras alone.

    Nothing but the scene decides: neither which views are asked for, nor random numbers.

    Raises:
        UnknownBounds: None of these tells: the cameras all stand at one place, or look away from
            each other.
        ValueError: A camera makes no sense. Both name the scene.
    """
    cameras = scene.extrinsics, scene.intrinsics
    try:
        check_cameras(*cameras)
    except ValueError as error:
        raise ValueError(f"scene {scene.key!r}: {error}") from error
    for origin in _ROOM:
        points = scene.points if origin == "sparse points" else points_from_pictures(scene)
        if points is not None:
            found = bounds_from_points(points, *cameras, _ROOM[origin])
            if found is not None:
                return BoundsEstimate(Bounds(*found, origin), points)
    try:
        return BoundsEstimate(Bounds(*bounds_from_cameras(*cameras), "cameras"), None)
    except ValueError as error:
        raise UnknownBounds(
            f"scene {scene.key!r} has no depth bounds, and {error}; give near and far"
        ) from error


def share_at_bounds(
    depth: Float[Tensor, "*n"], near: Float[Tensor, "*#n"], far: Float[Tensor, "*#n"]
) -> tuple[float, float]:
    """Shares of the depths within 2 % of the disparity range of ``near`` and of ``far``."""
    position = (1 / near - 1 / depth.clamp(min=1e-9)) / (1 / near - 1 / far)
    return float((position < 0.02).float().mean()), float((position > 0.98).float().mean())
