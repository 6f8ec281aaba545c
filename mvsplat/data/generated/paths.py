"""Camera paths like those of someone who walks through a room and films."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Walk:
    """How a path may look.

    Args:
        frames: Number of frames.
        travel: Length of the way in metres.
        pitch: Largest pitch up or down, degrees.
        roll: Largest roll, degrees.
    """

    frames: int
    travel: float
    pitch: float
    roll: float


def look(position: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    """Camera-to-world [4, 4] (OpenCV) of a camera that looks at a point, world z up."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1] = c * right + s * down, c * down - s * right
    pose[:3, 2], pose[:3, 3] = forward, position
    return pose


def _sway(rng: np.random.Generator, time: np.ndarray, size: float) -> np.ndarray:
    """A smooth wobble [n, 3] that adds up two slow waves an axis."""
    waves = rng.uniform(0.5, 2.0, (2, 1, 3)), rng.uniform(0.0, 2 * np.pi, (2, 1, 3))
    return size * np.sin(2 * np.pi * waves[0] * time[None, :, None] + waves[1]).sum(0)


def film(rng: np.random.Generator, walk: Walk, start: np.ndarray, focus: np.ndarray) -> np.ndarray:
    """Camera-to-world matrices [n, 4, 4] of a way that begins near ``start``, looking at ``focus``.

    The way is a bow, mostly sideways so that things shift against each other; hands sway, the gaze
    drifts, pitch and roll differ from path to path.
    """
    time = np.linspace(0.0, 1.0, walk.frames)
    ahead = (focus - start) * (1.0, 1.0, 0.0)
    ahead /= np.linalg.norm(ahead)
    side = np.array([-ahead[1], ahead[0], 0.0]) * rng.choice([-1.0, 1.0])
    angle = rng.uniform(-0.45, 0.45)
    direction = np.cos(angle) * side + np.sin(angle) * ahead
    direction[2] = rng.uniform(-0.35, 0.35)
    direction /= np.linalg.norm(direction)
    bow = rng.uniform(0.0, 0.15) * ahead + np.array([0.0, 0.0, rng.uniform(-0.04, 0.04)])
    along = (time - 0.5)[:, None] * direction + (4.0 * time * (1.0 - time))[:, None] * bow
    steps = along + _sway(rng, time, 0.008)
    # Scaled so that the way has the length asked for, wobble included.
    length = np.linalg.norm(np.diff(steps, axis=0), axis=-1).sum()
    positions = start + steps * (walk.travel / length if length > 0 else 1.0)
    # The gaze stays on the focus, or goes with the camera, or something between.
    drift = (rng.uniform(0.0, 1.2) * direction + rng.uniform(-0.2, 0.2, 3)) * walk.travel
    targets = focus + (time - 0.5)[:, None] * drift + _sway(rng, time, 0.01)
    pitch = np.radians(rng.uniform(-walk.pitch, walk.pitch))
    targets[:, 2] += np.tan(pitch) * np.linalg.norm((focus - start)[:2])
    rolls = np.radians(rng.uniform(-walk.roll, walk.roll)) + rng.uniform(-0.1, 0.1) * (time - 0.5)
    rolls += _sway(rng, time, 0.006)[:, 0]
    return np.stack([look(p, t, r) for p, t, r in zip(positions, targets, rolls, strict=True)])
