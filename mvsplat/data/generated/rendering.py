"""Takes a picture of a world: what is seen, times its colour, times the light on it."""

import numpy as np

from mvsplat.data.generated.gloss import reflections
from mvsplat.data.generated.light import irradiance
from mvsplat.data.generated.raycast import cast_fragments
from mvsplat.data.generated.texture import albedo
from mvsplat.data.generated.world import World

_GAMMA = 2.2
_EXPOSURE = 1.25  # of a film-like response, 1 - exp(-exposure x light), that never burns out


def take_picture(
    world: World, pose: np.ndarray, focal: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An anti-aliased 8-bit picture [h, w, 3] and the exact depth [h, w] at pixel centres.

    Args:
        world: What there is to see.
        pose: Camera-to-world [4, 4], OpenCV axes.
        focal: Normalised (fx, fy, cx, cy).
        shape: Height and width.
    """
    height, width = shape
    seen, depth = cast_fragments(world.walls, world.solids, pose, focal, height, width)
    material = np.concatenate([world.walls.material, world.solids.material])[seen.body]
    color = albedo(world.materials, material, seen.point, seen.normal, seen.footprint)
    light = irradiance(
        world.walls, world.solids, world.lights, world.ambient, seen.body, seen.point, seen.normal
    )
    light += world.materials.glow[material, None]
    mirrored = reflections(world, seen, material, pose[:3, 3])
    radiance = (color * light + mirrored) * seen.weight[:, None]
    linear = np.stack(
        [np.bincount(seen.pixel, radiance[:, c], height * width) for c in range(3)], axis=-1
    )
    encoded = 255.0 * (1.0 - np.exp(-_EXPOSURE * linear)) ** (1.0 / _GAMMA)
    return np.round(encoded).astype(np.uint8).reshape(height, width, 3), depth
