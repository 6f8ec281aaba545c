"""Things that stand in rooms or hang from their ceilings, put together from simple bodies.

Each function adds one thing in the builder's current frame (z = 0 is the floor) and keeps within
0.75 metres of its vertical axis.
"""

from collections.abc import Callable

import numpy as np

from mvsplat.data.generated.rooms import palette, thing_material
from mvsplat.data.generated.world import BOX, CLOUDS, CYLINDER, ELLIPSOID, Builder, turn

REACH = 0.75
_GREEN = (0.3, 0.42)


def table(build: Builder, ceiling: float) -> None:
    """A table with something on it."""
    rng = build.rng
    wood, x, y, top = thing_material(build), *rng.uniform(0.35, 0.55, 2), rng.uniform(0.55, 0.85)
    build.solid(BOX, (0, 0, top), (x, y, 0.05), wood)
    for sx in (-1, 1):
        for sy in (-1, 1):
            leg = (0.05, 0.05, top / 2)
            build.solid(BOX, (sx * (x - 0.07), sy * (y - 0.07), top / 2), leg, wood)
    r = rng.uniform(0.12, 0.22)
    place = rng.uniform(-0.15, 0.15, 2)
    kind = int(rng.choice([ELLIPSOID, CYLINDER, BOX]))
    half = (r, r, rng.uniform(0.12, 0.25))
    build.solid(kind, (*place, top + 0.05 + half[2]), half, thing_material(build))


def chair(build: Builder, ceiling: float) -> None:
    """A chair with a back."""
    cloth, wood = thing_material(build), thing_material(build)
    seat, back = build.rng.uniform(0.42, 0.5), build.rng.uniform(0.28, 0.42)
    build.solid(BOX, (0, 0, seat), (0.27, 0.27, 0.06), cloth)
    build.solid(BOX, (-0.24, 0, seat + back), (0.05, 0.27, back), cloth)
    for sx in (-1, 1):
        for sy in (-1, 1):
            build.solid(BOX, (sx * 0.22, sy * 0.22, seat / 2), (0.045, 0.045, seat / 2), wood)


def crates(build: Builder, ceiling: float) -> None:
    """Two or three boxes on each other, each turned."""
    rng, base = build.rng, 0.0
    for size in rng.uniform(0.22, 0.45, rng.integers(2, 4)):
        half = (size, size * rng.uniform(0.7, 1.1), size * rng.uniform(0.5, 0.9))
        place = (*rng.uniform(-0.08, 0.08, 2), base + half[2])
        build.solid(BOX, place, half, thing_material(build), turn(rng.uniform(0, np.pi)))
        base += 2 * half[2]


def pillar(build: Builder, ceiling: float) -> None:
    """A pillar up to the ceiling, or a column that ends on the way with a ball on it."""
    rng = build.rng
    kind, r = (CYLINDER if rng.uniform() < 0.6 else BOX), rng.uniform(0.14, 0.3)
    whole = rng.uniform() < 0.5
    height = ceiling + 0.5 if whole else rng.uniform(0.8, 1.5)
    build.solid(kind, (0, 0, height / 2), (r, r, height / 2), thing_material(build))
    build.solid(BOX, (0, 0, 0.1), (r + 0.1, r + 0.1, 0.1), thing_material(build))
    if not whole:
        ball = rng.uniform(0.2, 0.35)
        build.solid(ELLIPSOID, (0, 0, height + ball), (ball,) * 3, thing_material(build))


def plant(build: Builder, ceiling: float) -> None:
    """A pot with leaves of rounded clouds."""
    rng = build.rng
    pot, stem = rng.uniform(0.2, 0.3), rng.uniform(0.5, 1.1)
    build.solid(CYLINDER, (0, 0, pot), (pot * 0.9, pot * 0.9, pot), thing_material(build))
    build.solid(
        CYLINDER, (0, 0, pot + stem / 2), (0.05, 0.05, stem / 2 + pot), thing_material(build)
    )
    leaves = build.material(CLOUDS, palette(rng, (0.07, 0.15), (0.3, 0.75), _GREEN), 0.3)
    for _ in range(rng.integers(3, 6)):
        centre = (*rng.uniform(-0.25, 0.25, 2), 2 * pot + stem * rng.uniform(0.6, 1.1))
        half = tuple(rng.uniform(0.16, 0.36, 3))
        build.solid(ELLIPSOID, centre, half, leaves, turn(rng.uniform(0, np.pi)))


def cabinet(build: Builder, ceiling: float) -> None:
    """A cupboard or shelf with an object on top."""
    rng = build.rng
    half = (rng.uniform(0.22, 0.35), rng.uniform(0.35, 0.6), rng.uniform(0.4, 1.0))
    body = thing_material(build)
    build.solid(BOX, (0, 0, half[2]), half, body)
    door = thing_material(build)
    for side in (-1, 1):
        panel = (0.03, 0.42 * half[1], 0.85 * half[2])
        build.solid(BOX, (half[0], side * 0.48 * half[1], half[2]), panel, door)
    r = rng.uniform(0.12, 0.2)
    place = (0.0, rng.uniform(-0.2, 0.2), 2 * half[2] + r)
    build.solid(int(rng.choice([ELLIPSOID, CYLINDER])), place, (r, r, r), thing_material(build))


def sofa(build: Builder, ceiling: float) -> None:
    """An armchair or short sofa."""
    rng = build.rng
    cloth, width = thing_material(build), rng.uniform(0.35, 0.45)
    build.solid(BOX, (0, 0, 0.22), (0.38, width, 0.22), cloth)
    build.solid(BOX, (-0.33, 0, 0.45), (0.11, width, 0.45), cloth)
    for side in (-1, 1):
        build.solid(BOX, (0, side * (width + 0.08), 0.32), (0.38, 0.1, 0.32), cloth)
    cushion = (-0.1, rng.uniform(-0.2, 0.2), 0.58)
    build.solid(ELLIPSOID, cushion, (0.12, 0.24, 0.18), thing_material(build))


def ball(build: Builder, ceiling: float) -> None:
    """Two balls of different sizes side by side."""
    rng = build.rng
    big, small = rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.22)
    build.solid(ELLIPSOID, (0, -0.15, big), (big,) * 3, thing_material(build))
    build.solid(ELLIPSOID, (0.1, big, small), (small,) * 3, thing_material(build))


def statue(build: Builder, ceiling: float) -> None:
    """A rounded figure on a pedestal."""
    rng = build.rng
    base, stone = rng.uniform(0.3, 0.5), thing_material(build)
    build.solid(BOX, (0, 0, base / 2), (0.28, 0.28, base / 2), thing_material(build))
    height = base
    for size in (0.26, 0.2, 0.14):
        half = (size, size * rng.uniform(0.8, 1.2), size * rng.uniform(1.0, 1.6))
        height += 0.85 * half[2]
        build.solid(ELLIPSOID, (*rng.uniform(-0.05, 0.05, 2), height), half, stone)
        height += 0.75 * half[2]


def standing_lamp(build: Builder, ceiling: float) -> None:
    """A lamp on a pole; its shade glows."""
    rng = build.rng
    height = rng.uniform(1.2, 1.7)
    metal = thing_material(build)
    build.solid(CYLINDER, (0, 0, 0.05), (0.24, 0.24, 0.05), metal)
    build.solid(CYLINDER, (0, 0, height / 2), (0.05, 0.05, height / 2), metal)
    shade = build.material(CLOUDS, palette(rng, (0.02, 0.1), (0.7, 0.97)), 0.4, glow=0.7)
    build.solid(CYLINDER, (0, 0, height), (0.28, 0.28, 0.2), shade)


def pendant(build: Builder, ceiling: float) -> None:
    """Hangs from the ceiling: a globe, a drum or a box."""
    rng = build.rng
    drop = rng.uniform(0.5, max(0.6, ceiling - 1.8))
    size = tuple(rng.uniform(0.18, 0.38, 3))
    glow = 0.6 if rng.uniform() < 0.4 else 0.0
    colors = palette(rng, (0.04, 0.16), (0.55, 0.95))
    material = build.material(CLOUDS, colors, rng.uniform(0.25, 0.45), glow)
    half = (size[0], size[0], size[2])
    kind = int(rng.choice([ELLIPSOID, CYLINDER, BOX]))
    build.solid(kind, (0, 0, ceiling - drop), half, material, turn(rng.uniform(0, np.pi)))
    rod = (0.03, 0.03, drop / 2 + 0.3)
    build.solid(CYLINDER, (0, 0, ceiling - drop / 2 + 0.3), rod, thing_material(build))


def rug(build: Builder, ceiling: float) -> None:
    """Something flat on the floor; others may stand on it."""
    rng = build.rng
    half = (*rng.uniform(0.5, 1.1, 2), 0.015)
    build.solid(int(rng.choice([BOX, CYLINDER])), (0, 0, 0.0), half, thing_material(build))


STANDING: tuple[Callable[[Builder, float], None], ...] = (
    table,
    chair,
    crates,
    pillar,
    plant,
    cabinet,
    sofa,
    ball,
    statue,
    standing_lamp,
)
