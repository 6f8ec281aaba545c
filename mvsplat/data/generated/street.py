"""What stands in streets: houses, cars, poles, fences, signs, people."""

from collections.abc import Callable

import numpy as np

from mvsplat.data.generated.surfaces import front, plain, surface
from mvsplat.data.generated.world import BOX, CYLINDER, ELLIPSOID, Builder


def tilted(angle: float) -> np.ndarray:
    """Rows are the axes of a frame turned by ``angle`` about its first axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def lying(axis: int) -> np.ndarray:
    """Axes whose third, along which cylinders stand, is the frame's ``axis``."""
    return np.roll(np.eye(3), (axis + 1) % 3, axis=1) if axis < 2 else np.eye(3)


def house(build: Builder) -> None:
    """A house with a roof."""
    rng = build.rng
    x, y, z = rng.uniform(2.5, 6.0), rng.uniform(2.5, 6.0), rng.uniform(1.5, 6.0)
    build.solid(BOX, (0.0, 0.0, z), (x, y, z), front(build))
    if rng.uniform() < 0.6:
        roof, slope = surface(build, 1.5), rng.uniform(0.4, 0.8)
        slab = (x + 0.3, 0.55 * y / np.cos(slope), 0.12)
        for side in (-1.0, 1.0):
            centre = (0.0, side * 0.5 * y, 2.0 * z + 0.5 * y * np.tan(slope))
            build.solid(BOX, centre, slab, roof, tilted(-side * slope))


def car(build: Builder) -> None:
    """A car."""
    rng = build.rng
    paint, dark = plain(build), plain(build)
    build.solid(BOX, (0.0, 0.0, 0.55), (2.0, 0.85, 0.3), paint)
    build.solid(ELLIPSOID, (-0.2, 0.0, 0.9), (1.3, 0.8, rng.uniform(0.5, 0.7)), dark)
    for x in (-1.25, 1.25):
        build.solid(CYLINDER, (x, 0.0, 0.33), (0.33, 0.33, 0.9), dark, lying(1))


def pole(build: Builder) -> None:
    """A lamp post, or a sign on a pole."""
    rng = build.rng
    height, radius = rng.uniform(1.5, 6.0), rng.uniform(0.02, 0.09)
    material = plain(build)
    build.solid(CYLINDER, (0.0, 0.0, height / 2), (radius, radius, height / 2), material)
    if rng.uniform() < 0.5:
        half = (0.03, rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))
        build.solid(BOX, (0.0, 0.0, height), half, surface(build, 0.5))
    else:
        build.solid(ELLIPSOID, (0.0, 0.0, height), (0.2, 0.2, 0.25), material)


def fence(build: Builder) -> None:
    """Posts with rails between them."""
    rng = build.rng
    material, height = surface(build, 0.3), rng.uniform(0.7, 1.6)
    count, gap, half = rng.integers(6, 14), rng.uniform(0.2, 0.6), rng.uniform(0.015, 0.05)
    for number in range(count):
        y = (number - 0.5 * (count - 1)) * gap
        build.solid(BOX, (0.0, y, height / 2), (half, half, height / 2), material)
    for z in (0.3 * height, 0.9 * height):
        build.solid(BOX, (0.0, 0.0, z), (half, 0.5 * count * gap, half), material)


def board(build: Builder) -> None:
    """A poster or picture that stands on the ground."""
    rng = build.rng
    y, z = rng.uniform(0.4, 1.6, 2)
    build.solid(BOX, (0.0, 0.0, z + 0.2), (0.04, y, z), surface(build, rng.uniform(0.5, 2.0)))


def person(build: Builder) -> None:
    """Someone standing."""
    rng = build.rng
    tall = rng.uniform(0.85, 1.1)
    trousers, coat, skin = surface(build, 0.3), surface(build, 0.5), plain(build)
    for y in (-0.1, 0.1):
        build.solid(CYLINDER, (0.0, y, 0.42 * tall), (0.09, 0.09, 0.42 * tall), trousers)
    build.solid(ELLIPSOID, (0.0, 0.0, 1.12 * tall), (0.17, 0.26, 0.36 * tall), coat)
    build.solid(ELLIPSOID, (0.0, 0.0, 1.6 * tall), (0.11, 0.1, 0.14), skin)


def bench(build: Builder) -> None:
    """A bench with a back of slats."""
    material = surface(build, 0.4)
    for x in (-0.18, 0.0, 0.18):
        build.solid(BOX, (x, 0.0, 0.45), (0.07, 0.8, 0.02), material)
    for z in (0.6, 0.75, 0.9):
        build.solid(BOX, (-0.28, 0.0, z), (0.02, 0.8, 0.05), material)
    for y in (-0.7, 0.7):
        build.solid(BOX, (0.0, y, 0.22), (0.22, 0.04, 0.22), material)


def stack(build: Builder) -> None:
    """Boxes, barrels and balls on each other."""
    rng, base = build.rng, 0.0
    for _ in range(rng.integers(1, 4)):
        half = tuple(rng.uniform(0.15, 0.7, 3))
        kind = int(rng.choice([BOX, CYLINDER, ELLIPSOID]))
        half = (half[0], half[0], half[2]) if kind == CYLINDER else half
        build.solid(kind, (0.0, 0.0, base + half[2]), half, surface(build, half[0]))
        base += 1.8 * half[2]


SMALL: tuple[Callable[[Builder], None], ...] = (pole, fence, board, person, bench, stack)
THINGS: tuple[Callable[[Builder], None], ...] = (*SMALL, house, house, car, car)
