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

_FLOORS = (BRICKS, BRICKS, GRAIN, CELLS, PAINT, VEINS)
_WALLS = (CLOUDS, BRICKS, PAINT, STRIPES, VEINS, CELLS)
_CEILINGS = (CLOUDS, GRAIN, VEINS, PAINT)
_THINGS = (CLOUDS, VEINS, GRAIN, CELLS, STRIPES, PAINT, BRICKS)


@dataclass
class Room:
    """Size of a room: along x and y around the origin, and up from the floor at z = 0."""

    length: float
    width: float
    height: float


def palette(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """Four linear colours [4, 3] that go together: neighbours in hue and one contrast."""
    hue = rng.uniform()
    hues = hue + np.array([0.0, rng.normal(0.0, 0.06), rng.normal(0.0, 0.1), 0.5])
    hues[3] += rng.normal(0.0, 0.12)
    values = rng.permutation(np.linspace(*value, 4)) * rng.uniform(0.9, 1.1, 4)
    colors = [
        colorsys.hsv_to_rgb(h % 1.0, s, min(v, 0.97))
        for h, s, v in zip(hues, rng.uniform(*saturation, 4), values)
    ]
    return np.array(colors) ** 2.2


def thing_material(build: Builder) -> int:
    """A strong material for furniture, in the builder's current frame."""
    rng = build.rng
    colors = palette(rng, (0.35, 0.9), (0.3, 0.95))
    return build.material(int(rng.choice(_THINGS)), colors, rng.uniform(0.22, 0.6))


def raise_walls(build: Builder) -> Room:
    """Walls of a room with corners that are not quite right, perhaps cut or under a roof."""
    rng = build.rng
    room = Room(rng.uniform(7.0, 8.6), rng.uniform(5.0, 8.0), rng.uniform(2.7, 4.2))
    wall_colors = palette(rng, (0.1, 0.55), (0.4, 0.95))

    def surface(patterns: tuple[int, ...], colors: np.ndarray, low: float, high: float) -> int:
        return build.material(int(rng.choice(patterns)), colors, rng.uniform(low, high))

    up = np.array([0.0, 0.0, 1.0])
    floor = surface(_FLOORS, palette(rng, (0.2, 0.7), (0.2, 0.85)), 0.4, 0.9)
    build.wall(up, np.zeros(3), floor)
    slope = np.append(rng.normal(0.0, 0.06, 2), 1.0)
    ceiling = surface(_CEILINGS, palette(rng, (0.05, 0.5), (0.5, 0.98)), 0.5, 1.2)
    build.wall(-slope, np.array([0.0, 0.0, room.height]), ceiling)
    for side in range(4):
        build.at((0.0, 0.0, 0.0), 0.5 * np.pi * side)
        colors = wall_colors if rng.uniform() < 0.4 else palette(rng, (0.15, 0.75), (0.3, 0.95))
        direction = 0.5 * np.pi * side + rng.normal(0.0, 0.1)
        outward = np.array([np.cos(direction), np.sin(direction), 0.0])
        reach = 0.5 * (room.length, room.width)[side % 2]
        axis = np.array([np.cos(0.5 * np.pi * side), np.sin(0.5 * np.pi * side), 0.0])
        build.wall(-outward, reach * axis, surface(_WALLS, colors, 0.4, 1.0))
    if rng.uniform() < 0.5:  # a corner cut off
        signs = rng.choice([-1.0, 1.0], 2)
        corner = 0.5 * np.array([room.length * signs[0], room.width * signs[1], 0.0])
        inward = -np.append(signs, 0.0) * np.append(rng.uniform(0.6, 1.4, 2), 0.0)
        point = corner + inward / np.linalg.norm(inward) * rng.uniform(0.6, 1.3)
        build.wall(inward, point, surface(_WALLS, palette(rng, (0.2, 0.8), (0.3, 0.9)), 0.4, 0.9))
    if rng.uniform() < 0.35:  # under a roof
        tilt = np.array([0.0, rng.choice([-1.0, 1.0]), 1.0])
        point = np.array([0.0, tilt[1] * 0.5 * room.width, rng.uniform(0.5, 0.7) * room.height])
        build.wall(-tilt, point, surface(_CEILINGS, wall_colors, 0.4, 0.9))
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
            colors = palette(rng, (0.5, 1.0), (0.25, 1.0))
            glow = 0.8 if rng.uniform() < 0.3 else 0.0
            canvas = build.material(PAINT, colors, rng.uniform(0.3, 0.6), glow)
            build.solid(BOX, (0.0, 0.0, 0.0), (0.14, width, height), canvas)


def light_up(build: Builder, room: Room) -> np.ndarray:
    """One or two lamps under the ceiling; returns the ambient light [2, 3] of the room."""
    rng = build.rng
    warm = np.array([1.0, rng.uniform(0.84, 0.98), rng.uniform(0.65, 0.95)])
    for strength in (rng.uniform(0.7, 1.0), rng.uniform(0.15, 0.45)):
        place = rng.uniform(-0.32, 0.32, 2) * (room.length, room.width)
        position = np.append(place, room.height * rng.uniform(0.78, 0.92))
        build.lamp(position, rng.uniform(0.12, 0.3), strength * warm)
        warm = warm[::-1]
    sky = rng.uniform(0.24, 0.36) * np.array([0.94, 0.98, 1.08])
    floor = rng.uniform(0.22, 0.34) * np.array([1.08, 0.98, 0.9])
    return np.stack([floor, sky])
