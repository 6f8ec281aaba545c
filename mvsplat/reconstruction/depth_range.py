"""How near and far a scene to reconstruct is, even if nothing tells."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds, estimate_bounds, find_bounds, with_given
from mvsplat.data.scene import Scene
from mvsplat.geometry.depth_bounds import spread_cameras
from mvsplat.reconstruction.pictures import any_size


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
    scene: Scene, near: float | None, far: float | None, usual: tuple[float, float]
) -> DepthRange:
    """Bounds as given, else as the data says, else estimated as everywhere.

    Args:
        scene: The scene.
        near: As the user says.
        far: As the user says.
        usual: For scenes without any size, whose cameras all stand at one place.

    Raises:
        ValueError: Near is not less than far, or nothing tells how far away the scene is.
    """
    if None not in (near, far) or None not in (scene.near, scene.far):
        return DepthRange(find_bounds(scene, near, far), scene.points)
    if scene.points is None and len(spread_cameras(scene.extrinsics[:, :3, 3], 2)) < 2:
        found = Bounds(*usual, "nothing: the cameras all stand at one place")
        return DepthRange(with_given(found, near, far, scene.key), None)
    with any_size():
        found, points = estimate_bounds(scene)
    return DepthRange(with_given(found, near, far, scene.key), points)
