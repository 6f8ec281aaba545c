"""A camera's lens, and pictures as a pinhole would have taken them.

Intrinsics are normalised by width and height, as everywhere (:mod:`mvsplat.types`): the picture
spans [0, 1] x [0, 1] and pixel centres are at half numbers of pixels, which is also COLMAP's
convention. A lens therefore serves pictures of every size with its aspect ratio.

The undistorted picture has the size of the original and no blank pixel: it shows the largest
rectangle of the original's shape around the same centre that the original covers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.data.readers.distortion import Distortion

# An undistorted picture reaches at most so far from the optical axis, in degrees: the sides of a
# wide fisheye picture would be stretched without end.
_WIDEST = 60.0
_LARGEST_EXTENT = 3.0
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True)
class Lens:
    """Normalised intrinsics, the size of the pictures they were measured on, and the distortion.

    Args:
        focal: Focal lengths, divided by the picture's width and height.
        centre: The principal point, divided by them.
        size: Width and height in pixels; None where the data does not say.
        distortion: None for a pinhole.

    Raises:
        ValueError: A number is not finite, a focal length or a size not positive.
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    size: tuple[int, int] | None = None
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.focal, *self.centre))):
            raise ValueError(
                f"focal length {self.focal} or principal point {self.centre} is not finite"
            )
        if min(self.focal) <= 0:
            raise ValueError(f"the focal length is {min(self.focal):g}; it must be positive")

    @classmethod
    def from_pixels(
        cls,
        focal: tuple[float, float],
        centre: tuple[float, float],
        size: tuple[int, int],
        distortion: Distortion | None = None,
    ) -> "Lens":
        """A lens from focal lengths and principal point in pixels, (0, 0) being a corner."""
        if min(size) < 1:
            raise ValueError(f"the picture's size is {size[0]} x {size[1]}")
        width, height = size
        return cls(
            (focal[0] / width, focal[1] / height),
            (centre[0] / width, centre[1] / height),
            size,
            distortion,
        )

    @property
    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """Normalised intrinsics of the picture that :meth:`undistort` makes.

        Raises:
            ValueError: The distortion leaves no picture.
        """
        zoom = 1 / _extent(self)
        matrix = torch.eye(3, dtype=torch.float64)
        for axis in (0, 1):
            matrix[axis, axis] = self.focal[axis] * zoom
            matrix[axis, 2] = 0.5 + (self.centre[axis] - 0.5) * zoom
        return matrix.float()

    def undistort(self, picture: Image.Image) -> Image.Image:
        """The RGB picture a pinhole with :attr:`intrinsics` would have taken, of the same size."""
        if self.distortion is None:
            return picture
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
        rows = [
            torch.nn.functional.grid_sample(
                pixels, grid[None], mode="bicubic", padding_mode="border", align_corners=False
            )
            for grid in _sampling_grid(self, picture.width, picture.height)
        ]
        result = torch.cat(rows, 2)[0].round_().clamp_(0, 255).byte()
        return Image.fromarray(result.permute(1, 2, 0).numpy())

    def observe(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Where in the original picture, in [0, 1] x [0, 1], the lens shows points (X/Z, Y/Z)."""
        if self.distortion is not None:
            points = self.distortion(points)
        return points * points.new_tensor(self.focal) + points.new_tensor(self.centre)

    def _ideal(self, uv: Float[Tensor, "*n 2"], extent: float) -> Float[Tensor, "*n 2"]:
        """Image-plane points of positions [0, 1] x [0, 1] in a pinhole's picture of an extent.

        The extent 1 has the focal length of the original, a smaller one shows less.
        """
        uv = 0.5 + (uv - 0.5) * extent
        return (uv - uv.new_tensor(self.centre)) / uv.new_tensor(self.focal)


@lru_cache(maxsize=256)
def _extent(lens: Lens) -> float:
    """The largest extent of an undistorted picture that shows nothing outside of the original."""
    if lens.distortion is None:
        return 1.0
    good, bad = 0.0, _LARGEST_EXTENT
    for step in range(1, 61):
        extent = 0.02 * (_LARGEST_EXTENT / 0.02) ** (step / 60)
        if not _is_covered(lens, extent):
            bad = extent
            break
        good = extent
    if good == 0:
        raise ValueError(f"the lens distortion makes no sense: {lens.distortion}")
    for _ in range(30):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if _is_covered(lens, middle) else (good, middle)
    return good


def _is_covered(lens: Lens, extent: float) -> bool:
    """Whether a pinhole's picture of this extent lies in the original, without folds."""
    side = torch.linspace(0, 1, 33, dtype=torch.float64)
    uv = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    ideal = lens._ideal(uv, extent)
    if ideal.abs().max() > math.tan(math.radians(_WIDEST)):
        return False
    observed = lens.observe(ideal)
    # Neighbouring points keep their orientation: the distortion does not fold back.
    right = observed[:-1, 1:] - observed[:-1, :-1]
    below = observed[1:, :-1] - observed[:-1, :-1]
    area = right[..., 0] * below[..., 1] - right[..., 1] * below[..., 0]
    return bool(((observed >= 0) & (observed <= 1)).all() and (area > 0).all())


def _sampling_grid(lens: Lens, width: int, height: int) -> Iterator[Float[Tensor, "h w 2"]]:
    """Where to take each pixel from, [-1, 1] across the original, some rows at a time."""
    extent = _extent(lens)
    u = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    for start in range(0, height, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, height)
        v = (torch.arange(start, stop, dtype=torch.float64) + 0.5) / height
        uv = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)
        yield (2 * lens.observe(lens._ideal(uv, extent)) - 1).float()
