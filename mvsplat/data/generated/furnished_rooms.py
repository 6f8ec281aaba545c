"""Draws a scene: a furnished room and a way through it that shows near and far."""

import numpy as np

from mvsplat.data.generated import furniture
from mvsplat.data.generated.paths import Walk, film
from mvsplat.data.generated.raycast import cast_depth
from mvsplat.data.generated.recipe import FAR, NEAR, Recipe
from mvsplat.data.generated.rooms import Room, hang_pictures, light_up, raise_walls
from mvsplat.data.generated.shot import Shot
from mvsplat.data.generated.world import Builder, World

_NEAREST, _FARTHEST = 1.25, 9.5  # depths that pictures really have
_LEAST_RATIO = 4.0  # of the farthest to the nearest depth in a scene
_PROBE = (18, 18)
_ATTEMPTS = 200


def draw_shot(rng: np.random.Generator, recipe: Recipe) -> Shot:
    """Draw rooms and paths until one shows near and far things, and nothing too close.

    Raises:
        ValueError: The recipe allows no such path (a way too long for a room, say).
    """
    focal = _focal(rng, recipe)
    # Seven pixels at a middle depth: what stays visible at a quarter of the resolution.
    finest = min(7.0 * 4.0 / (focal[0] * recipe.width), 0.8)
    walk = Walk(recipe.frames, recipe.travel, recipe.pitch, recipe.roll)
    for _ in range(_ATTEMPTS):
        build = Builder(rng, max(finest, 0.1))
        room = raise_walls(build)
        hang_pictures(build, room)
        poses = _enter(rng, walk, room)
        _furnish(build, room, poses)
        world = build.world(light_up(build, room))
        if _is_good(world, poses, focal):
            return Shot(world, poses, focal, recipe.shape, NEAR, FAR)
    raise ValueError(
        f"no camera path found in {_ATTEMPTS} rooms with {recipe}; "
        "a shorter travel or less pitch makes it easier"
    )


def _focal(rng: np.random.Generator, recipe: Recipe) -> np.ndarray:
    angle = np.radians(rng.uniform(*recipe.field_of_view))
    pixels = 0.5 * max(recipe.width, recipe.height) / np.tan(0.5 * angle)
    return np.array([pixels / recipe.width, pixels / recipe.height, 0.5, 0.5])


def _enter(rng: np.random.Generator, walk: Walk, room: Room) -> np.ndarray:
    """A way that begins near one end of the room and looks towards the other."""
    start = np.array(
        [
            -0.5 * room.length + rng.uniform(0.3, 1.4),
            rng.uniform(-0.25, 0.25) * room.width,
            rng.uniform(0.9, min(2.0, room.height - 0.7)),
        ]
    )
    focus = np.array([start[0] + rng.uniform(3.0, 4.5), start[1] + rng.normal(0.0, 1.0), start[2]])
    return film(rng, walk, start, focus)


def _furnish(build: Builder, room: Room, poses: np.ndarray) -> None:
    """Things in front of the cameras, some of them close; none in the way."""
    rng = build.rng
    eyes, middle = poses[:, :2, 3], poses[len(poses) // 2]
    ahead = np.arctan2(middle[1, 2], middle[0, 2])
    taken: list[np.ndarray] = []
    wanted = rng.integers(7, 12)
    for _ in range(60):
        close = len(taken) < 3
        distance = rng.uniform(1.9, 3.2) if close else rng.uniform(2.8, 7.0)
        angle = ahead + rng.uniform(-0.6, 0.6)
        place = middle[:2, 3] + distance * np.array([np.cos(angle), np.sin(angle)])
        if np.any(np.abs(place) > 0.5 * np.array([room.length, room.width]) - 0.6):
            continue
        if np.linalg.norm(eyes - place, axis=-1).min() < furniture.REACH + 0.95:
            continue
        if any(np.linalg.norm(place - other) < 1.05 for other in taken):
            continue
        build.at((*place, 0.0), rng.uniform(0.0, 2 * np.pi))
        if rng.uniform() < 0.2:
            furniture.pendant(build, room.height)
        else:
            item = furniture.STANDING[rng.integers(len(furniture.STANDING))]
            item(build, room.height)
        taken.append(place)
        if len(taken) == wanted:
            break
    for _ in range(rng.integers(1, 3)):
        place = rng.uniform(-0.3, 0.3, 2) * (room.length, room.width)
        build.at((*place, 0.0), rng.uniform(0.0, 2 * np.pi))
        furniture.rug(build, room.height)


def _is_good(world: World, poses: np.ndarray, focal: np.ndarray) -> bool:
    """Whether the path stays in the room, and its pictures hold near and far things."""
    walls = world.walls
    room = (poses[:, :3, 3] @ walls.normal.T - walls.offset).min()
    if room < 0.2:
        return False
    chosen = np.linspace(0, len(poses) - 1, min(len(poses), 5)).round().astype(int)
    depths = np.stack([cast_depth(walls, world.solids, poses[i], focal, *_PROBE) for i in chosen])
    if depths.min() < _NEAREST or depths.max() > _FARTHEST:
        return False
    near, far = np.quantile(depths, [0.02, 0.98])
    return bool(far >= _LEAST_RATIO * near)
