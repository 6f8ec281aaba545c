"""What shiny surfaces mirror: lamps as highlights, and the light from above and below."""

import numpy as np

from mvsplat.data.generated.raycast import Fragments
from mvsplat.data.generated.world import World

_SHARPNESS = 40.0  # exponent of the highlights (Blinn and Phong)
_BANDS = 3.0  # bright and dark surroundings, in turns around the vertical


def reflections(world: World, seen: Fragments, material: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Linear light [f, 3] that fragments [f] mirror towards the eye; nothing of it is in shadow."""
    mirrored = np.zeros((len(material), 3))
    shiny = np.flatnonzero(world.materials.shine[material])
    if not len(shiny):
        return mirrored
    view = seen.point[shiny] - eye
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    normal = seen.normal[shiny]
    facing = -np.einsum("fi,fi->f", view, normal)[:, None]
    ray = view + 2.0 * facing * normal
    up = 0.5 + 0.5 * ray[:, 2:]
    bands = 0.5 + 0.5 * np.sin(_BANDS * np.arctan2(ray[:, 1:2], ray[:, :1]) + 4.0 * ray[:, 2:])
    below, above = world.ambient
    light = (0.4 + 1.2 * bands) * ((1.0 - up) * below + up * above)
    for position, color in zip(world.lights.position, world.lights.color, strict=True):
        lamp = position - seen.point[shiny]
        length = np.linalg.norm(lamp, axis=1, keepdims=True)
        towards = np.maximum(np.einsum("fi,fi->f", ray, lamp)[:, None] / length, 0.0)
        light += 3.0 * towards**_SHARPNESS * color / (0.35 + 0.065 * length**2)
    # Schlick's approximation: everything mirrors more at a slant.
    share = world.materials.shine[material[shiny], None]
    mirrored[shiny] = (share + (1.0 - share) * 0.5 * (1.0 - facing.clip(0.0, 1.0)) ** 5) * light
    return mirrored
