"""Camera paths of many kinds: past things, towards them, around them, or from a handful of places.

Each takes a generator, the number of frames, where to begin, what to look at, and how far to go in
multiples of the distance between the two. Each returns camera-to-world matrices [n, 4, 4].
"""

from collections.abc import Callable

import numpy as np

from mvsplat.data.generated.paths import Walk, film, look

Journey = Callable[[np.random.Generator, int, np.ndarray, np.ndarray, float], np.ndarray]
_LARGEST_ROLL = 8.0  # degrees
_STEEPEST = 1.2  # radians up or down


def past(
    rng: np.random.Generator, frames: int, eye: np.ndarray, focus: np.ndarray, share: float
) -> np.ndarray:
    """Sideways in a bow, the gaze drifting."""
    distance = float(np.linalg.norm(focus - eye))
    return film(rng, Walk(frames, share * distance, 6.0, _LARGEST_ROLL), eye, focus)


def towards(
    rng: np.random.Generator, frames: int, eye: np.ndarray, focus: np.ndarray, share: float
) -> np.ndarray:
    """Forward, or backward, with a little drift to the side."""
    way = focus - eye
    drift = rng.normal(0.0, 0.15, 3) * (1.0, 1.0, 0.3) * np.linalg.norm(way)
    time = np.linspace(0.0, 1.0, frames) * rng.choice([1.0, -0.5])
    eyes = eye + share * time[:, None] * (way + drift) * (1.0, 1.0, 0.2)
    beyond = focus + 0.7 * way + np.linspace(-0.5, 0.5, frames)[:, None] * rng.normal(0.0, 0.1, 3)
    return _gaze(rng, eyes, beyond)


def around(
    rng: np.random.Generator, frames: int, eye: np.ndarray, focus: np.ndarray, share: float
) -> np.ndarray:
    """On an arc about what is looked at; ``share`` is its angle in radians."""
    angle = share * rng.choice([-1.0, 1.0]) * np.linspace(-0.5, 0.5, frames)
    arm = eye - focus
    c, s = np.cos(angle), np.sin(angle)
    arms = np.stack([c * arm[0] - s * arm[1], s * arm[0] + c * arm[1], 0 * c + arm[2]], axis=-1)
    arms *= 1.0 + rng.uniform(-0.15, 0.15) * np.linspace(-1.0, 1.0, frames)[:, None]
    arms[:, 2] += rng.uniform(-0.2, 0.2) * share * np.linalg.norm(arm) * np.linspace(-1, 1, frames)
    targets = focus + rng.normal(0.0, 0.03, (frames, 3)) * np.linalg.norm(arm)
    return _gaze(rng, focus + arms, targets)


def here_and_there(
    rng: np.random.Generator, frames: int, eye: np.ndarray, focus: np.ndarray, share: float
) -> np.ndarray:
    """From places in no order, as someone takes single photographs."""
    distance = np.linalg.norm(focus - eye)
    eyes = eye + share * distance * rng.uniform(-0.5, 0.5, (frames, 3)) * (1.0, 1.0, 0.4)
    targets = focus + 0.12 * distance * rng.normal(0.0, 1.0, (frames, 3)) * (1.0, 1.0, 0.5)
    return _gaze(rng, eyes, targets)


def _gaze(rng: np.random.Generator, eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Look from each place at its target, never straight up or down; hands are not level."""
    roll = np.radians(rng.uniform(-_LARGEST_ROLL, _LARGEST_ROLL))
    rolls = roll + np.radians(rng.normal(0.0, 1.0, len(eyes)))
    poses = []
    for eye, target, tilt in zip(eyes, targets, rolls, strict=True):
        way = target - eye
        most = np.tan(_STEEPEST) * np.hypot(way[0], way[1])
        way[2] = np.clip(way[2], -most, most)
        poses.append(look(eye, eye + way, tilt))
    return np.stack(poses)
