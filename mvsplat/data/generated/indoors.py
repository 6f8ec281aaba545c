"""Draws places under a roof other than furnished rooms: tables, corridors, heaps of things."""

import numpy as np

from mvsplat.data.generated import street
from mvsplat.data.generated.journeys import around, here_and_there, past, towards
from mvsplat.data.generated.setting import Setting, lamplight
from mvsplat.data.generated.surfaces import foliage, plain, surface
from mvsplat.data.generated.world import BOX, CYLINDER, ELLIPSOID, Builder, random_axes, turn


def tabletop(build: Builder) -> Setting:
    """One thing or many on a table, seen from above on an arc, with a room behind."""
    rng = build.rng
    low, high = _box(build, rng.uniform(3.0, 7.0), rng.uniform(3.0, 7.0), rng.uniform(2.4, 3.4))
    spread = rng.uniform(0.35, 1.0)
    top = rng.uniform(0.6, 0.9)
    half = spread * rng.uniform(1.0, 2.0, 2)
    build.at((0.0, 0.0, 0.0), rng.uniform(0.0, np.pi))
    build.solid(BOX, (0.0, 0.0, top / 2), (*half, top / 2), surface(build, spread))
    count = 1 if rng.uniform() < 0.4 else rng.integers(2, 16)
    size = spread * (rng.uniform(0.5, 0.9) if count == 1 else rng.uniform(0.15, 0.45))
    for _ in range(count):
        place = rng.uniform(-0.7, 0.7, 2) * half if count > 1 else np.zeros(2)
        _object(build, (*place, top), size * rng.uniform(0.6, 1.4))
    for _ in range(rng.integers(2, 8)):
        _at_the_wall(build, low, high)
    focus = np.array([0.0, 0.0, top + 0.4 * size])
    angle, down = rng.uniform(0.0, 2.0 * np.pi), np.radians(rng.uniform(8.0, 60.0))
    arm = np.array([np.cos(angle) * np.cos(down), np.sin(angle) * np.cos(down), np.sin(down)])
    eye = focus + rng.uniform(1.2, 2.4) * max(2.0 * size, 0.6 * spread) * arm
    ways = (around, around, around, past, here_and_there)
    return Setting(lamplight(build, low + 0.3, high - 0.1), eye, focus, ways, (0.1, 1.0))


def corridor(build: Builder) -> Setting:
    """A long, narrow room with doors, pipes and things along its walls."""
    rng = build.rng
    length, width = rng.uniform(10.0, 40.0), rng.uniform(1.6, 4.5)
    low, high = _box(build, length, width, rng.uniform(2.2, 4.0))
    for _ in range(rng.integers(6, 16)):
        side = rng.choice([-1.0, 1.0])
        x, z = rng.uniform(low[0], high[0]), rng.uniform(0.3, 0.9) * high[2]
        half = (rng.uniform(0.1, 0.7), rng.uniform(0.02, 0.15), rng.uniform(0.2, 1.1))
        build.at((x, side * 0.5 * width, 0.0), 0.0)
        build.solid(BOX, (0.0, 0.0, min(z, high[2])), half, surface(build, 1.0))
        if rng.uniform() < 0.4:
            build.at((x, side * (0.5 * width - 0.35), 0.0), rng.uniform(0.0, 6.0))
            _object(build, (0.0, 0.0, 0.0), rng.uniform(0.1, 0.3))
    for _ in range(rng.integers(0, 4)):
        thin = rng.uniform(0.02, 0.1)
        place = (0.0, rng.uniform(-0.5, 0.5) * width, high[2] * rng.uniform(0.85, 1.0))
        build.at((0.0, 0.0, 0.0), 0.0)
        build.solid(CYLINDER, place, (thin, thin, length), plain(build), street.lying(0))
    eye = np.array([low[0] + rng.uniform(0.5, 3.0), rng.uniform(-0.2, 0.2) * width, 0.0])
    eye[2] = rng.uniform(0.9, min(1.9, high[2] - 0.4))
    focus = eye + np.array([rng.uniform(2.0, 5.0), rng.normal(0.0, 0.2) * width, 0.0])
    focus[2] = eye[2] * rng.uniform(0.7, 1.2)
    ways = (towards, towards, towards, past, here_and_there)
    return Setting(lamplight(build, low + 0.2, high - 0.1), eye, focus, ways, (0.05, 0.5))


def heap(build: Builder) -> Setting:
    """Bodies of all sizes in any position, floating or not: nothing can be guessed."""
    rng = build.rng
    size = float(np.exp(rng.uniform(np.log(4.0), np.log(30.0))))
    low, high = _box(build, size, size * rng.uniform(0.7, 1.3), size * rng.uniform(0.4, 0.9))
    eye = np.array([low[0] * 0.9, 0.0, 0.5 * high[2]])
    for _ in range(rng.integers(15, 50)):
        away = 0.12 * size * 7.0 ** rng.uniform(0.0, 1.0)
        place = eye + away * _direction(rng)
        half = 0.12 * away * np.exp(rng.normal(0.0, 0.6, 3))
        if rng.uniform() < 0.2:
            half *= (0.12, 0.12, 2.5)  # a rod
        kind = int(rng.choice([BOX, BOX, CYLINDER, ELLIPSOID]))
        half[1] = half[0] if kind == CYLINDER else half[1]
        build.at((place[0], place[1], place[2]), 0.0)
        body = (kind, (0.0, 0.0, 0.0), (half[0], half[1], half[2]))
        build.solid(*body, surface(build, float(half.max())), random_axes(rng))
    focus = eye + np.array([rng.uniform(0.2, 0.5) * size, 0.0, rng.normal(0.0, 0.05) * size])
    ways = (past, around, towards, here_and_there)
    return Setting(lamplight(build, low, high), eye, focus, ways, (0.05, 0.7))


def _direction(rng: np.random.Generator) -> np.ndarray:
    """Ahead, up to 60 degrees aside."""
    yaw, pitch = rng.uniform(-1.0, 1.0), rng.uniform(-0.6, 0.6)
    return np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])


def _box(
    build: Builder, length: float, width: float, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """Floor, ceiling and four walls; returns two opposite corners."""
    rng = build.rng
    half = np.array([0.5 * length, 0.5 * width])
    build.at((0.0, 0.0, 0.0), rng.uniform(0.0, np.pi))
    build.wall(np.array([0.0, 0.0, 1.0]), np.zeros(3), surface(build, 1.5))
    bright = plain(build) if rng.uniform() < 0.5 else surface(build, 2.0)
    build.wall(np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.0, height]), bright)
    common = surface(build, 2.0)
    for axis in (0, 1):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = -sign
            point = -normal * half[axis]
            material = common if rng.uniform() < 0.5 else surface(build, 2.0)
            build.wall(normal + (*rng.normal(0.0, 0.05, 2), 0.0), point, material)
    return np.append(-half, 0.0), np.append(half, height)


def _object(build: Builder, base: tuple[float, float, float], size: float) -> None:
    """Something ``size`` metres large on ``base``: a vase, a toy, fruit, a plant, books."""
    rng = build.rng
    x, y, z = base
    whole = surface(build, size)
    for part in range(rng.integers(1, 6)):
        half = size * rng.uniform(0.2, 0.55, 3)
        kind = int(rng.choice([BOX, CYLINDER, ELLIPSOID, ELLIPSOID]))
        half[1] = half[0] if kind == CYLINDER else half[1]
        shift = rng.normal(0.0, 0.3 * size, 2) if part else np.zeros(2)
        material = whole if rng.uniform() < 0.4 else surface(build, size)
        centre = (x + shift[0], y + shift[1], z + 0.9 * half[2])
        build.solid(kind, centre, (half[0], half[1], half[2]), material, turn(rng.uniform(0, 6)))
        z += half[2] * rng.uniform(0.3, 1.8)
    if rng.uniform() < 0.25:
        leaves = foliage(build, 0.4 * size)
        for _ in range(rng.integers(3, 9)):
            half = size * rng.uniform(0.05, 0.3, 3)
            centre = (*(np.array([x, y]) + rng.normal(0.0, 0.4 * size, 2)), z + half[2])
            build.solid(ELLIPSOID, centre, (half[0], half[1], half[2]), leaves, random_axes(rng))
    if rng.uniform() < 0.25:
        thin = 0.03 * size
        rod = (thin, thin, size * rng.uniform(0.4, 1.0))
        build.solid(CYLINDER, (x, y, z), rod, plain(build), random_axes(rng))


def _at_the_wall(build: Builder, low: np.ndarray, high: np.ndarray) -> None:
    """Furniture or a picture at a wall."""
    rng = build.rng
    axis, sign = rng.integers(2), rng.choice([-1.0, 1.0])
    place = rng.uniform(0.85, 0.95) * (low + rng.uniform(0.0, 1.0, 3) * (high - low))
    place[axis] = sign * high[axis] * 0.95
    half = rng.uniform(0.1, 0.6, 3)
    build.at((place[0], place[1], 0.0), 0.0)
    z = half[2] if rng.uniform() < 0.6 else rng.uniform(0.5, 0.8) * high[2]
    build.solid(BOX, (0.0, 0.0, z), (half[0], half[1], half[2]), surface(build, 0.6))
