"""A place with everything in it: what kinds of scenes hand to the camera."""

from dataclasses import dataclass

import numpy as np

from mvsplat.data.generated.journeys import Journey
from mvsplat.data.generated.world import Builder

SUN_DISTANCE = 2000.0


@dataclass
class Setting:
    """Where to film what a builder holds.

    Args:
        ambient: Light from below and from above [2, 3].
        eye: Where a path begins.
        focus: What it looks at.
        journeys: Kinds of paths that suit it; repeated ones are drawn more often.
        shares: Shortest and longest path, in multiples of the distance from eye to focus.
        end: What is farther away than this is sky.
    """

    ambient: np.ndarray
    eye: np.ndarray
    focus: np.ndarray
    journeys: tuple[Journey, ...]
    shares: tuple[float, float]
    end: float = np.inf


def sunlight(build: Builder) -> np.ndarray:
    """A sun, perhaps behind clouds; returns the ambient light [2, 3]."""
    rng = build.rng
    azimuth, height = rng.uniform(0.0, 2.0 * np.pi), np.radians(rng.uniform(15.0, 75.0))
    flat = np.cos(height)
    place = SUN_DISTANCE * np.array(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(height)]
    )
    overcast = rng.uniform() < 0.35
    strength = rng.uniform(0.0, 0.25) if overcast else rng.uniform(0.5, 1.1)
    color = strength * np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.7, 0.95)])
    # Lamps fade with distance; a sun does not.
    build.lamp(place, 0.008 * SUN_DISTANCE, color * (0.35 + 0.065 * SUN_DISTANCE**2))
    sky = rng.uniform(0.3, 0.5) * np.array([0.9, 0.97, 1.1]) * (1.5 if overcast else 1.0)
    soil = rng.uniform(0.3, 0.6) * sky * np.array([1.1, 1.0, 0.85])
    return np.stack([soil, sky])


def lamplight(build: Builder, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """One or two lamps between two corners, and a fill light; returns the ambient light [2, 3]."""
    rng = build.rng
    for number in range(rng.integers(2, 4)):
        warm = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.6, 1.0)])
        place = low + rng.uniform(0.1, 0.9, 3) * (high - low)
        reach = np.linalg.norm(high - low)
        strength = rng.uniform(0.2, 0.6) * (0.35 + 0.065 * (0.3 * reach) ** 2)
        build.lamp(place, 0.0 if number == 0 else rng.uniform(0.08, 0.4), strength * warm)
    above = rng.uniform(0.2, 0.45) * np.array([1.0, 0.98, 0.98 + rng.uniform(-0.15, 0.12)])
    return np.stack([above * rng.uniform(0.5, 1.0), above])
