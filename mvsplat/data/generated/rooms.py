"""Draws rooms: walls, floor and ceiling, their materials, lamps and what hangs on the walls."""

from dataclasses import dataclass

import numpy as np

from mvsplat.data.generated.world import (
    BOX,
    BRICKS,
    CELLS,
    CLOUDS,
    GRAIN,
    PAINT,
    STRIPES,
    VEINS,
    Builder,
)

# Repeated names are drawn more often.
_FLOORS = (BRICKS, BRICKS, GRAIN, GRAIN, CELLS, VEINS)
_WALLS = (CLOUDS, CLOUDS, BRICKS, BRICKS, STRIPES, VEINS, CELLS)
_CEILINGS = (CLOUDS, GRAIN, BRICKS)
_THINGS = (CLOUDS, VEINS, GRAIN, GRAIN, CELLS, STRIPES, PAINT, BRICKS)
_WARM = (0.1, 0.24)  # hues of wood, clay and sand
# OKLab to cube roots of cone responses, and those to linear sRGB.
_LAB_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@dataclass
class Room:
    """Size of a room: along x and y around the origin, and up from the floor at z = 0."""

    length: float
    width: float
    height: float


def palette(
    rng: np.random.Generator,
    chroma: tuple[float, float],
    lightness: tuple[float, float],
    hues: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Four linear colours [4, 3] from dark to light that go together; the last is an accent.

    Drawn in OKLCH (Ottosson 2020), where equal steps look equal: chroma up to about 0.2,
    lightness between 0 and 1, hues in turns.
    """
    hue = rng.uniform(*hues) + np.cumsum(rng.normal(0.0, 0.03, 4))
    chromas = rng.uniform(*chroma) * rng.uniform(0.7, 1.2, 4)
    lights = np.linspace(*lightness, 4) * rng.uniform(0.94, 1.06, 4)
    if rng.uniform() < 0.5:  # otherwise a lighter tone of the same
        hue[3] += rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 0.5)
    angle = 2.0 * np.pi * hue
    lab = np.stack([lights, chromas * np.cos(angle), chromas * np.sin(angle)])
    return np.clip(_CONES_TO_RGB @ (_LAB_TO_CONES @ lab) ** 3, 0.004, 0.95).T


def thing_material(build: Builder) -> int:
    """A strong material for furniture, in the builder's current frame."""
    rng = build.rng
    low = rng.uniform(0.25, 0.6)
    colors = palette(rng, (0.05, 0.17), (low, low + rng.uniform(0.2, 0.4)))
    return build.material(int(rng.choice(_THINGS)), colors, rng.uniform(0.25, 0.6))


def _floor(build: Builder) -> int:
    rng = build.rng
    hues = _WARM if rng.uniform() < 0.6 else (0.0, 1.0)
    low = rng.uniform(0.3, 0.5)
    colors = palette(rng, (0.03, 0.11), (low, low + rng.uniform(0.2, 0.35)), hues)
    return build.material(int(rng.choice(_FLOORS)), colors, rng.uniform(0.4, 0.8))


def _ceiling(build: Builder) -> int:
    rng = build.rng
    colors = palette(rng, (0.01, 0.06), (rng.uniform(0.55, 0.7), 0.97))
    return build.material(int(rng.choice(_CEILINGS)), colors, rng.uniform(0.5, 1.1))


def _wall(build: Builder) -> int:
    rng = build.rng
    low = rng.uniform(0.35, 0.65)
    colors = palette(rng, (0.03, 0.11), (low, low + rng.uniform(0.2, 0.4)))
    return build.material(int(rng.choice(_WALLS)), colors, rng.uniform(0.4, 0.9))


def raise_walls(build: Builder) -> Room:
    """Walls of a room with corners that are not quite right, perhaps cut or under a roof."""
    rng = build.rng
    room = Room(rng.uniform(7.0, 8.6), rng.uniform(5.0, 8.0), rng.uniform(2.7, 4.2))
    build.wall(np.array([0.0, 0.0, 1.0]), np.zeros(3), _floor(build))
    slope = np.append(rng.normal(0.0, 0.06, 2), 1.0)
    build.wall(-slope, np.array([0.0, 0.0, room.height]), _ceiling(build))
    for side in range(4):
        angle = 0.5 * np.pi * side
        build.at((0.0, 0.0, 0.0), angle)
        reach = 0.5 * (room.length, room.width)[side % 2]
        point = reach * np.array([np.cos(angle), np.sin(angle), 0.0])
        angle += rng.normal(0.0, 0.1)
        build.wall(-np.array([np.cos(angle), np.sin(angle), 0.0]), point, _wall(build))
    if rng.uniform() < 0.5:  # a corner cut off
        signs = rng.choice([-1.0, 1.0], 2)
        inward = np.append(-signs * rng.uniform(0.6, 1.4, 2), 0.0)
        corner = 0.5 * np.append(signs * (room.length, room.width), 0.0)
        point = corner + inward / np.linalg.norm(inward) * rng.uniform(0.6, 1.3)
        build.wall(inward, point, _wall(build))
    if rng.uniform() < 0.35:  # under a roof
        side = rng.choice([-1.0, 1.0])
        point = np.array([0.0, side * 0.5 * room.width, rng.uniform(0.5, 0.7) * room.height])
        build.wall(np.array([0.0, -side, -1.0]), point, _ceiling(build))
    build.at((0.0, 0.0, 0.0), 0.0)
    return room


def hang_pictures(build: Builder, room: Room) -> None:
    """Up to two framed paintings or bright windows on each of the four walls."""
    rng = build.rng
    for side in range(4):
        yaw = 0.5 * np.pi * side
        reach = 0.5 * (room.length, room.width)[side % 2]
        span = (room.width, room.length)[side % 2]
        for place in (-0.2, 0.2):
            if rng.uniform() < 0.35:
                continue
            along = place * span + rng.uniform(-0.5, 0.5)
            x = np.cos(yaw) * reach - np.sin(yaw) * along
            y = np.sin(yaw) * reach + np.cos(yaw) * along
            build.at((x, y, rng.uniform(1.2, 1.9)), yaw)
            _picture(build, rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.6))


def _picture(build: Builder, width: float, height: float) -> None:
    """Half extents; thick, because a wall may be turned a little behind it."""
    rng = build.rng
    frame = build.material(GRAIN, palette(rng, (0.02, 0.1), (0.15, 0.5), _WARM), 0.4)
    build.solid(BOX, (0.0, 0.0, 0.0), (0.12, width + 0.09, height + 0.09), frame)
    glow = 0.6 if rng.uniform() < 0.3 else 0.0
    colors = palette(rng, (0.06, 0.17), (0.25, 0.95))
    canvas = build.material(PAINT, colors, rng.uniform(0.3, 0.6), glow)
    build.solid(BOX, (0.0, 0.0, 0.0), (0.14, width, height), canvas)


def light_up(build: Builder, room: Room) -> np.ndarray:
    """A lamp and a fill light without shadows; returns the room's ambient light [2, 3]."""
    rng = build.rng
    warm = np.array([1.0, rng.uniform(0.84, 0.98), rng.uniform(0.65, 0.95)])
    lamp = rng.uniform(0.7, 1.0) * warm, rng.uniform(0.12, 0.3)
    fill = rng.uniform(0.15, 0.4) * warm[::-1], 0.0
    for color, radius in (lamp, fill):
        place = rng.uniform(-0.32, 0.32, 2) * (room.length, room.width)
        position = np.append(place, room.height * rng.uniform(0.65, 0.85))
        build.lamp(position, radius, color)
    sky = rng.uniform(0.24, 0.36) * np.array([0.94, 0.98, 1.08])
    floor = rng.uniform(0.22, 0.34) * np.array([1.08, 0.98, 0.9])
    return np.stack([floor, sky])
