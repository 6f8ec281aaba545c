"""How near and far a scene is, if need be from its photographs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import (
    Bounds,
    bounds_from_cameras,
    bounds_from_points,
    find_bounds,
    spread_cameras,
)
from mvsplat.data.scenes import Scene
from mvsplat.data.transforms import Shape
from mvsplat.geometry.overlap import compare_views, frustum_points
from mvsplat.geometry.view_choice import pair_quality
from mvsplat.reconstruction.frames import as_views
from mvsplat.reconstruction.inputs import SceneInput
from mvsplat.geometry.matching import triangulated

_SHAPE: Shape = (128, 128)
_MOST_CAMERAS, _MOST_PAIRS = 24, 6
_ENOUGH_POINTS = 50


@dataclass
class DepthRange:
    """Bounds, and the points they rest on, if they do.

    Args:
        bounds: Near and far.
        points: In world space.
    """

    bounds: Bounds
    points: Float[Tensor, "p 3"] | None


def depth_range(
    source: SceneInput, near: float | None, far: float | None, usual: tuple[float, float]
) -> DepthRange:
    """Bounds as given, else as the data says, else from sparse points; without any, points are
    triangulated from patches of the photographs, and if these do not match, cameras must do.

    Args:
        source: The scene.
        near: As the user says.
        far: As the user says.
        usual: For scenes without any size, whose cameras all stand at one place.

    Raises:
        ValueError: Near is not less than far, or nothing tells how far away the scene is.
    """
    scene = source.scene
    points = scene.points
    if points is not None or _known(scene, near, far):
        return DepthRange(find_bounds(scene, near, far), points)
    if len(spread_cameras(scene.extrinsics[:, :3, 3], 2)) < 2:
        found = Bounds(*usual, "nothing: the cameras all stand at one place")
        return DepthRange(_completed(found, near, far), None)
    points = points_from_photos(source)
    pair = bounds_from_points(points, scene.extrinsics, scene.intrinsics)
    if pair is None or len(points) < _ENOUGH_POINTS:
        return DepthRange(find_bounds(scene, near, far), None)
    return DepthRange(_completed(Bounds(*pair, "matching patches"), near, far), points)


def points_from_photos(source: SceneInput) -> Float[Tensor, "p 3"]:
    """World points that pairs of photographs surely both show."""
    found = [torch.zeros(0, 3)]
    for pair in _pairs(source.scene):
        views = as_views([source.frame(index, _SHAPE) for index in pair], 1.0, 2.0)
        found.append(triangulated(views.image[0], views.extrinsics[0], views.intrinsics[0]))
    return torch.cat(found)


def _pairs(scene: Scene) -> list[tuple[int, int]]:
    """Pairs of photographs that should match, if the scene is about as deep as cameras say."""
    chosen = torch.tensor(spread_cameras(scene.extrinsics[:, :3, 3], _MOST_CAMERAS))
    extrinsics, intrinsics = scene.extrinsics[chosen], scene.intrinsics[chosen]
    try:
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
    except ValueError:
        return []
    shown = frustum_points(extrinsics, intrinsics, near, far)
    quality = pair_quality(compare_views(shown, extrinsics, intrinsics))
    best = quality.argmax(dim=-1)
    strength = quality.amax(dim=-1)
    order = strength.argsort(descending=True, stable=True)
    pairs = [
        (int(chosen[row]), int(chosen[best[row]])) for row in order.tolist() if strength[row] > 0
    ]
    return pairs[:_MOST_PAIRS]


def _known(scene: Scene, near: float | None, far: float | None) -> bool:
    return None not in (near, far) or None not in (scene.near, scene.far)


def _completed(found: Bounds, near: float | None, far: float | None) -> Bounds:
    """What was found, but for what the user says.

    Raises:
        ValueError: They do not fit together.
    """
    result = Bounds(near or found.near, far or found.far, found.origin)
    if not 0 < result.near < result.far:
        raise ValueError(
            f"near is {result.near:g} and far is {result.far:g}; expected 0 < near < far"
        )
    return result
