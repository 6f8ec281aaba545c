"""Draws the materials of varied scenes: from plain paint to foliage, dull or shiny."""

import numpy as np

from mvsplat.data.generated.rooms import palette
from mvsplat.data.generated.world import (
    BRICKS,
    CELLS,
    CLOUDS,
    GRAIN,
    LEAVES,
    PAINT,
    STRIPES,
    VEINS,
    WINDOWS,
    Builder,
)

# Repeated names are drawn more often.
_PATTERNS = (LEAVES, LEAVES, LEAVES, CLOUDS, VEINS, GRAIN, CELLS, STRIPES, PAINT, PAINT, BRICKS)
_GREEN, _EARTH, _BLUE = (0.28, 0.42), (0.08, 0.26), (0.6, 0.72)


def surface(build: Builder, size: float) -> int:
    """Any material for something ``size`` metres large."""
    rng = build.rng
    if rng.uniform() < 0.3:
        return plain(build)
    low = rng.uniform(0.12, 0.65)
    colors = palette(rng, _chroma(rng), (low, min(low + rng.uniform(0.1, 0.6), 1.0)))
    return _detailed(build, int(rng.choice(_PATTERNS)), colors, size * rng.uniform(0.15, 0.9))


def plain(build: Builder) -> int:
    """Paint or plastic with hardly any texture, often shiny."""
    rng = build.rng
    low = rng.uniform(0.15, 0.9)
    colors = palette(rng, _chroma(rng), (low, low + rng.uniform(0.0, 0.04)))
    shine = rng.uniform(0.05, 0.35) if rng.uniform() < 0.5 else 0.0
    contrast = rng.uniform(0.0, 0.15)
    return build.material(CLOUDS, colors, rng.uniform(0.5, 2.0), contrast=contrast, shine=shine)


def foliage(build: Builder, size: float) -> int:
    """Leaves, light and dark."""
    rng = build.rng
    hues = _GREEN if rng.uniform() < 0.8 else _EARTH
    colors = palette(rng, (0.05, 0.14), (rng.uniform(0.1, 0.3), rng.uniform(0.5, 0.85)), hues)
    return _detailed(build, LEAVES, colors, size)


def ground(build: Builder, size: float) -> int:
    """Grass, soil, asphalt or paving."""
    rng = build.rng
    hues = [_GREEN, _EARTH, (0.0, 1.0)][rng.integers(3)]
    low = rng.uniform(0.2, 0.5)
    colors = palette(rng, (0.0, 0.08), (low, low + rng.uniform(0.05, 0.35)), hues)
    pattern = int(rng.choice([LEAVES, CLOUDS, CLOUDS, CELLS, BRICKS, PAINT]))
    return _detailed(build, pattern, colors, size)


def front(build: Builder) -> int:
    """A house's front: rows of windows, bricks, plaster or stone."""
    rng = build.rng
    if rng.uniform() < 0.6:
        low = rng.uniform(0.1, 0.35)
        colors = palette(rng, (0.01, 0.1), (low, rng.uniform(0.55, 0.95)))
        return build.material(
            WINDOWS, colors, rng.uniform(2.2, 3.6), gain=0.7, softness=0.4, contrast=0.4
        )
    if rng.uniform() < 0.5:
        colors = palette(rng, (0.02, 0.12), (rng.uniform(0.3, 0.5), rng.uniform(0.55, 0.8)), _EARTH)
        return _detailed(build, BRICKS, colors, rng.uniform(0.2, 0.5))
    return surface(build, 3.0)


def sky(build: Builder, distance: float) -> int:
    """Clear, cloudy or overcast; it shines by itself."""
    rng = build.rng
    chroma = (0.0, rng.choice([0.02, 0.08, 0.12]))
    low = rng.uniform(0.7, 0.85)
    colors = palette(rng, chroma, (low, min(low + rng.uniform(0.0, 0.3), 1.0)), _BLUE)
    size = distance * rng.uniform(0.2, 0.8)
    glow, contrast = rng.uniform(0.8, 2.0), rng.uniform(0.0, 0.4)
    return build.material(CLOUDS, colors, size, glow, contrast=contrast)


def _detailed(build: Builder, pattern: int, colors: np.ndarray, size: float) -> int:
    """Detail down to the pixels, in fine octaves as strong as in photographs, or softer."""
    rng = build.rng
    shine = rng.uniform(0.03, 0.25) if rng.uniform() < 0.15 else 0.0
    return build.material(
        pattern,
        colors,
        size,
        gain=rng.uniform(0.5, 0.85),
        softness=rng.uniform(0.25, 0.6),
        contrast=rng.uniform(0.2, 1.0),
        shine=shine,
    )


def _chroma(rng: np.random.Generator) -> tuple[float, float]:
    """Most things are nearly grey, some are not."""
    return (0.0, 0.045) if rng.uniform() < 0.65 else (0.04, 0.16)
