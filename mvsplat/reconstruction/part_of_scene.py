"""Some of a scene's frames as a scene."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.data.scene import Scene


class PartOfScene(Scene):
    """A scene without some of its frames.

    Args:
        whole: The scene.
        frames: Numbers of the frames that stay.
    """

    def __init__(self, whole: Scene, frames: Sequence[int]) -> None:
        self.whole = whole
        self.frames = list(frames)
        self.key = whole.key
        self.near, self.far = whole.near, whole.far
        self.left_out = whole.left_out
        self.extrinsics = whole.extrinsics[self.frames]
        self.intrinsics = whole.intrinsics[self.frames]
        if whole.frame_names is not None:
            self.frame_names = [whole.frame_names[frame] for frame in self.frames]

    @property
    def points(self) -> Float[Tensor, "p 3"] | None:  # type: ignore[override]
        """Sparse points in world space."""
        return self.whole.points

    def image(self, index: int) -> Image.Image:
        return self.whole.image(self.frames[index])

    def depth(self, index: int) -> np.ndarray | None:
        return self.whole.depth(self.frames[index])

    def mask(self, index: int) -> np.ndarray | None:
        return self.whole.mask(self.frames[index])

    def encoded(self, index: int) -> bytes | None:
        return self.whole.encoded(self.frames[index])
