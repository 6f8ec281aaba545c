"""What grows: trees with and without leaves, hedges, bushes; and rocks."""

from collections.abc import Callable

import numpy as np

from mvsplat.data.generated.surfaces import foliage, ground, surface
from mvsplat.data.generated.world import BOX, CYLINDER, ELLIPSOID, Builder, random_axes, turn


def tree(build: Builder) -> None:
    """A trunk and a crown of several clouds of leaves."""
    rng = build.rng
    height, radius = rng.uniform(1.5, 4.5), rng.uniform(0.08, 0.35)
    bark = surface(build, 0.5)
    build.solid(CYLINDER, (0.0, 0.0, height / 2), (radius, radius, height / 2), bark)
    leaves, spread = foliage(build, rng.uniform(0.3, 1.2)), rng.uniform(0.7, 2.0)
    for _ in range(rng.integers(3, 8)):
        centre = (*rng.normal(0.0, 0.5 * spread, 2), height + spread * rng.uniform(-0.3, 1.0))
        half = tuple(spread * rng.uniform(0.35, 0.8, 3))
        build.solid(ELLIPSOID, centre, half, leaves, turn(rng.uniform(0.0, np.pi)))


def conifer(build: Builder) -> None:
    """A narrow tree whose branches reach the ground."""
    rng = build.rng
    leaves, height, width = foliage(build, 0.5), rng.uniform(2.0, 9.0), rng.uniform(0.4, 1.2)
    for level in range(5):
        share = level / 5.0
        half = width * (1.1 - share)
        centre = (0.0, 0.0, height * (0.1 + 0.85 * share))
        build.solid(ELLIPSOID, centre, (half, half, 0.16 * height), leaves)


def bare_tree(build: Builder) -> None:
    """A trunk with thin branches."""
    rng = build.rng
    bark, height = surface(build, 0.4), rng.uniform(1.5, 4.0)
    radius = rng.uniform(0.05, 0.18)
    build.solid(CYLINDER, (0.0, 0.0, height / 2), (radius, radius, height / 2), bark)
    for _ in range(rng.integers(5, 12)):
        length, thin = rng.uniform(0.4, 1.4), radius * rng.uniform(0.12, 0.4)
        axes = random_axes(rng)
        axes *= np.sign(axes[2, 2])
        axes[0] *= np.linalg.det(axes)
        centre = np.array([0.0, 0.0, height * rng.uniform(0.5, 1.0)]) + length * axes[2]
        x, y, z = centre
        build.solid(CYLINDER, (x, y, z), (thin, thin, length), bark, axes)


def bush(build: Builder) -> None:
    """Rounded bushes."""
    rng = build.rng
    leaves = foliage(build, rng.uniform(0.15, 0.6))
    for _ in range(rng.integers(1, 5)):
        half = tuple(rng.uniform(0.25, 0.8, 3))
        build.solid(ELLIPSOID, (*rng.normal(0.0, 0.5, 2), 0.5 * half[2]), half, leaves)


def hedge(build: Builder) -> None:
    """A cut hedge."""
    rng = build.rng
    half = (rng.uniform(0.2, 0.5), rng.uniform(1.0, 4.0), rng.uniform(0.3, 0.9))
    build.solid(BOX, (0.0, 0.0, half[2]), half, foliage(build, 0.3))


def rocks(build: Builder) -> None:
    """Rocks of several sizes."""
    rng = build.rng
    stone = ground(build, rng.uniform(0.2, 0.8))
    for size in rng.uniform(0.1, 0.7, rng.integers(2, 7)):
        half = tuple(size * rng.uniform(0.6, 1.2, 3))
        build.solid(ELLIPSOID, (*rng.normal(0.0, 0.8, 2), 0.3 * size), half, stone)


SMALL: tuple[Callable[[Builder], None], ...] = (bush, rocks, bare_tree, hedge)
THINGS: tuple[Callable[[Builder], None], ...] = (*SMALL, tree, tree, conifer)
