"""Draws places under the sky: streets, gardens and squares with far backgrounds, and fronts."""

import numpy as np

from mvsplat.data.generated import greenery, street
from mvsplat.data.generated.journeys import around, here_and_there, past, towards
from mvsplat.data.generated.setting import Setting, sunlight
from mvsplat.data.generated.surfaces import foliage, front, ground, plain, sky, surface
from mvsplat.data.generated.world import BOX, CYLINDER, ELLIPSOID, Builder, turn


def outdoors(build: Builder) -> Setting:
    """Houses, trees, hills and smaller things, from arm's length to the horizon."""
    rng = build.rng
    end = _land_and_sky(build)
    if rng.uniform() < 0.6:
        _hills(build, end)
    height = rng.uniform(1.1, 2.0) if rng.uniform() < 0.75 else rng.uniform(3.0, 12.0)
    eye = np.array([0.0, 0.0, height])
    distance = rng.uniform(4.0, 14.0)
    focus = np.array([distance, rng.normal(0.0, 1.0), height * rng.uniform(0.4, 1.3)])
    kinds = [street.THINGS, greenery.THINGS, street.THINGS + greenery.THINGS][rng.integers(3)]
    nearest = rng.uniform(2.0, 6.0)
    for _ in range(rng.integers(10, 28)):
        reach = nearest * (end / 3.0 / nearest) ** rng.beta(1.0, 1.6)
        angle = rng.uniform(-0.9, 0.9)
        build.at((reach * np.cos(angle), reach * np.sin(angle), 0.0), rng.uniform(0.0, 2.0 * np.pi))
        kinds[rng.integers(len(kinds))](build)
    if rng.uniform() < 0.5:
        _row_of_houses(build, rng.uniform(6.0, 40.0))
    ways = (past, past, towards, here_and_there, around)
    return Setting(sunlight(build), eye, focus, ways, (0.05, 0.6), 0.8 * end)


def facade(build: Builder) -> Setting:
    """The front of a building, filling the picture, with what sticks out of it."""
    rng = build.rng
    end = _land_and_sky(build)
    height, width = rng.uniform(4.0, 14.0), rng.uniform(8.0, 30.0)
    build.at((0.0, 0.0, 0.0), 0.0)
    build.solid(BOX, (2.0, 0.0, height / 2), (2.0, width / 2, height / 2), front(build))
    for _ in range(rng.integers(8, 28)):
        _relief(build, width, height)
    for step in range(rng.integers(0, 4)):
        deep = 0.35 * (step + 1)
        build.solid(BOX, (0.0, 0.0, 0.0), (deep, 2.5 + deep, 0.5 - 0.15 * step), ground(build, 1.0))
    for _ in range(rng.integers(0, 5)):
        build.at((rng.uniform(-3.0, -0.8), rng.uniform(-0.4, 0.4) * width, 0.0), rng.uniform(0, 6))
        things = street.SMALL + greenery.SMALL
        things[rng.integers(len(things))](build)
    build.at((0.0, 0.0, 0.0), 0.0)
    distance = rng.uniform(2.5, 9.0)
    side = rng.uniform(-0.6, 0.6) * distance
    eye = np.array([-distance, side, rng.uniform(1.2, 2.0)])
    focus = np.array([0.0, 0.3 * side + rng.normal(0.0, 1.0), rng.uniform(1.0, 0.7 * height)])
    ways = (past, here_and_there, around, around, towards)
    return Setting(sunlight(build), eye, focus, ways, (0.06, 0.8), 0.8 * end)


def _land_and_sky(build: Builder) -> float:
    """A nearly level ground that ends at the sky; returns how far away that is."""
    rng = build.rng
    end = float(np.exp(rng.uniform(np.log(40.0), np.log(250.0))))
    build.at((0.0, 0.0, 0.0), 0.0)
    slope = np.append(rng.normal(0.0, 0.04, 2), 1.0)
    build.wall(slope, np.zeros(3), ground(build, rng.uniform(0.5, 4.0)))
    vault = sky(build, end)
    build.wall(np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.0, 0.6 * end]), vault)
    for side in range(8):
        angle = 0.25 * np.pi * side
        outward = np.array([np.cos(angle), np.sin(angle), 0.4])
        build.wall(-outward, end * outward, vault)
    return end


def _hills(build: Builder, end: float) -> None:
    """Rounded hills before the horizon."""
    rng = build.rng
    cover = foliage(build, rng.uniform(3.0, 12.0)) if rng.uniform() < 0.7 else ground(build, 10.0)
    for _ in range(rng.integers(1, 5)):
        angle, reach = rng.uniform(-1.2, 1.2), rng.uniform(0.45, 0.75) * end
        half = (rng.uniform(0.1, 0.25) * end, rng.uniform(0.15, 0.5) * end, 0.0)
        half = (*half[:2], rng.uniform(0.03, 0.2) * end)
        build.at((reach * np.cos(angle), reach * np.sin(angle), 0.0), angle)
        build.solid(ELLIPSOID, (0.0, 0.0, 0.0), half, cover)


def _row_of_houses(build: Builder, distance: float) -> None:
    """Houses side by side across the view, or along one side of it."""
    rng = build.rng
    along = rng.uniform() < 0.5
    for number in range(rng.integers(3, 8)):
        offset = (number - 3) * rng.uniform(6.0, 11.0)
        place = (distance + offset + 25.0, 9.0, 0.0) if along else (distance, offset, 0.0)
        build.at(place, rng.normal(0.0, 0.05))
        street.house(build)


def _relief(build: Builder, width: float, height: float) -> None:
    """A column, a ledge, a door or a window frame on the front at x = 0."""
    rng = build.rng
    y, z = rng.uniform(-0.45, 0.45) * min(width, 15.0), rng.uniform(0.0, 0.9) * min(height, 8.0)
    material = surface(build, 1.0) if rng.uniform() < 0.6 else plain(build)
    kind = rng.integers(5)
    if kind == 0:
        radius = rng.uniform(0.1, 0.4)
        build.solid(CYLINDER, (-0.2, y, height / 2), (radius, radius, height / 2), material)
    elif kind == 1:
        half = (rng.uniform(0.1, 0.5), 0.5 * width, rng.uniform(0.06, 0.25))
        build.solid(BOX, (0.0, 0.0, z), half, material)
    elif kind == 2:
        half = (0.15, rng.uniform(0.5, 1.4), rng.uniform(1.0, 1.8))
        build.solid(BOX, (0.0, y, half[2]), half, material)
        inner = (0.2, 0.8 * half[1], 0.9 * half[2])
        build.solid(BOX, (0.0, y, inner[2]), inner, surface(build, 1.0))
        build.solid(ELLIPSOID, (0.0, y, 2 * half[2]), (0.15, half[1], 0.5 * half[1]), material)
    elif kind == 3:
        half = (0.12, rng.uniform(0.4, 0.8), rng.uniform(0.5, 1.0))
        build.solid(BOX, (0.0, y, z), half, material)
        build.solid(BOX, (0.0, y, z), (0.14, 0.85 * half[1], 0.9 * half[2]), plain(build))
    else:
        size = rng.uniform(0.15, 0.6)
        axes = turn(rng.uniform(0.0, np.pi))
        build.solid(int(rng.choice([BOX, ELLIPSOID])), (-0.1, y, z), (size,) * 3, material, axes)
