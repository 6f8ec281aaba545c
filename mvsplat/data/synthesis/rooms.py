"""Draws rooms: walls, floor and ceiling, their materials, lamps and what hangs on the walls."""

import colorsys
from dataclasses import dataclass

import numpy as np

from mvsplat.data.synthesis.world import (
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
_WARM = (0.02, 0.14)  # hues of wood, clay and sand


@dataclass
class Room:
    """Size of a room: along x and y around the origin, and up from the floor at z = 0."""

    length: float
    width: float
    height: float


def palette(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hues: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Four linear colours [4, 3] from dark to light that go together; the last is an accent."""
    hue = rng.uniform(*hues) + np.cumsum(rng.normal(0.0, 0.035, 4))
    saturations = rng.uniform(*saturation) * rng.uniform(0.75, 1.15, 4)
    values = np.linspace(*value, 4) * rng.uniform(0.92, 1.08, 4)
    if rng.uniform() < 0.5:  # otherwise a lighter tone of the same
        hue[3] += rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.5)
    colors = [
        colorsys.hsv_to_rgb(h % 1.0, min(s, 1.0), min(v, 0.98))
        for h, s, v in zip(hue, saturations, values)
    ]
    return np.array(colors) ** 2.2


def thing_material(build: Builder) -> int:
    """A strong material for furniture, in the builder's current frame."""
    rng = build.rng
    low = rng.uniform(0.15, 0.5)
    colors = palette(rng, (0.3, 0.85), (low, low + rng.uniform(0.25, 0.5)))
    return build.material(int(rng.choice(_THINGS)), colors, rng.uniform(0.25, 0.6))


def _floor(build: Builder) -> int:
    rng = build.rng
    hues = _WARM if rng.uniform() < 0.6 else (0.0, 1.0)
    low = rng.uniform(0.2, 0.45)
    colors = palette(rng, (0.2, 0.6), (low, low + rng.uniform(0.25, 0.4)), hues)
    return build.material(int(rng.choice(_FLOORS)), colors, rng.uniform(0.4, 0.8))


def _ceiling(build: Builder) -> int:
    rng = build.rng
    colors = palette(rng, (0.05, 0.35), (rng.uniform(0.4, 0.6), 0.95))
    return build.material(int(rng.choice(_CEILINGS)), colors, rng.uniform(0.5, 1.1))


def _wall(build: Builder) -> int:
    rng = build.rng
    low = rng.uniform(0.25, 0.55)
    colors = palette(rng, (0.12, 0.55), (low, low + rng.uniform(0.3, 0.5)))
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
    """Framed paintings, windows and a door along the four walls."""
    rng = build.rng
    for side in range(4):
        reach = 0.5 * (room.length, room.width)[side % 2]
        span = (room.width, room.length)[side % 2]
        places = np.linspace(-0.5, 0.5, 4)[1:-1] if rng.uniform() < 0.6 else [rng.uniform(-0.3, 0.3)]
        for place in places:
            if rng.uniform() < 0.25:
                continue
            width, height = rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.6)
            middle = rng.uniform(1.2, 1.9)
            yaw = 0.5 * np.pi * side
            offset = place * span + rng.uniform(-0.4, 0.4)
            # The wall may be turned a little; thick panels reach into it.
            build.at((np.cos(yaw) * reach - np.sin(yaw) * offset,
                      np.sin(yaw) * reach + np.cos(yaw) * offset, middle), yaw)
            frame = build.material(
                GRAIN, palette(rng, (0.2, 0.8), (0.08, 0.5)), 0.4
            )
            build.solid(BOX, (0.0, 0.0, 0.0), (0.12, width + 0.09, height + 0.09), frame)
            colors = palette(rng, (0.4, 0.85), (0.15, 1.0))
            glow = 0.6 if rng.uniform() < 0.3 else 0.0
            canvas = build.material(PAINT, colors, rng.uniform(0.3, 0.6), glow)
            build.solid(BOX, (0.0, 0.0, 0.0), (0.14, width, height), canvas)


def light_up(build: Builder, room: Room) -> np.ndarray:
    """One or two lamps under the ceiling; returns the ambient light [2, 3] of the room."""
    rng = build.rng
    warm = np.array([1.0, rng.uniform(0.84, 0.98), rng.uniform(0.65, 0.95)])
    for strength in (rng.uniform(0.7, 1.0), rng.uniform(0.15, 0.45)):
        place = rng.uniform(-0.32, 0.32, 2) * (room.length, room.width)
        position = np.append(place, room.height * rng.uniform(0.65, 0.85))
        build.lamp(position, rng.uniform(0.12, 0.3), strength * warm)
        warm = warm[::-1]
    sky = rng.uniform(0.24, 0.36) * np.array([0.94, 0.98, 1.08])
    floor = rng.uniform(0.22, 0.34) * np.array([1.08, 0.98, 0.9])
    return np.stack([floor, sky])
