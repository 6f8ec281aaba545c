"""A world and the cameras that film it."""

from dataclasses import dataclass

import numpy as np

from mvsplat.data.generated.world import World


@dataclass
class Shot:
    """What one scene's frames are taken of, and how.

    Args:
        world: What there is to see.
        poses: Camera-to-world [n, 4, 4], OpenCV axes.
        focal: (fx, fy, cx, cy), normalised.
        shape: Height and width of the frames.
        near: Least depth; a frame that shows something closer spoils the shot.
        far: Where the scene may be said to end.
    """

    world: World
    poses: np.ndarray
    focal: np.ndarray
    shape: tuple[int, int]
    near: float
    far: float
