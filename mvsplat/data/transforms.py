"""Crops and flips of pictures together with their cameras; pure functions.

Conventions are those of :mod:`mvsplat.types`: normalised intrinsics, pixel centres at half numbers.
Resizing a whole picture leaves normalised intrinsics as they are; cropping and flipping change them
exactly, the principal point too.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from mvsplat.types import Batch, Views

Shape = tuple[int, int]


def cover(frame: Shape, shape: Shape) -> tuple[Shape, Shape]:
    """How a frame (height, width) is resized and cropped to ``shape``.

    Returns:
        The size that covers ``shape`` (rounded to whole pixels, so the aspect ratio may change by
        a fraction of a pixel), and the top left pixel of the centre crop in it.
    """
    scale = max(shape[0] / frame[0], shape[1] / frame[1])
    resized = (round(frame[0] * scale), round(frame[1] * scale))
    return resized, ((resized[0] - shape[0]) // 2, (resized[1] - shape[1]) // 2)


def crop_image(image: Image.Image, shape: Shape) -> UInt8[Tensor, "3 h w"]:
    """Resize an 8-bit RGB picture to cover ``shape`` with Lanczos and crop its centre.

    Where it comes out the same, bit by bit, only the part that the crop needs is resized.
    """
    frame = (image.height, image.width)
    if _parts_are_exact(frame, shape):
        image = _resized_part(image, shape)
    else:
        image = _resized_whole(image, shape)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def crop_mask(mask: Bool[Tensor, "frame_h frame_w"], shape: Shape) -> Bool[Tensor, "h w"]:
    """What a picture's mask says of each pixel of :func:`crop_image`, where its centre is."""
    resized, corner = cover((mask.shape[0], mask.shape[1]), shape)
    rows, columns = (
        ((torch.arange(count) + first + 0.5) * (before / after)).long().clamp(max=before - 1)
        for count, first, before, after in zip(shape, corner, mask.shape, resized, strict=True)
    )
    return mask[rows][:, columns]


def _resized_whole(image: Image.Image, shape: Shape) -> Image.Image:
    (height, width), (top, left) = cover((image.height, image.width), shape)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + shape[1], top + shape[0]))


def _resized_part(image: Image.Image, shape: Shape) -> Image.Image:
    frame = (image.height, image.width)
    resized, corner = cover(frame, shape)
    rows, columns = (_Span.around(*axis) for axis in zip(frame, resized, corner, shape))
    image = image.resize(
        (columns.after[1] - columns.after[0], rows.after[1] - rows.after[0]),
        Image.Resampling.LANCZOS,
        box=(columns.before[0], rows.before[0], columns.before[1], rows.before[1]),
    )
    top, left = corner[0] - rows.after[0], corner[1] - columns.after[0]
    return image.crop((left, top, left + shape[1], top + shape[0]))


@lru_cache(maxsize=256)
def _parts_are_exact(frame: Shape, shape: Shape) -> bool:
    """Whether a part resized by itself is that of the whole, found out with a picture of noise.

    PIL rounds to 8 bits between rows and columns, and which come first may depend on the size.
    """
    noise = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    image = Image.fromarray(noise)
    part, whole = _resized_part(image, shape), _resized_whole(image, shape)
    return np.array_equal(np.asarray(part), np.asarray(whole))


class _Span(NamedTuple):
    """A stretch of pixels along an axis, counted before and after the whole is resized."""

    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def around(cls, size: int, resized: int, first: int, count: int) -> "_Span":
        """The shortest span with ``count`` resized pixels in it that ends between pixels.

        A resized pixel is a weighted mean of those around its centre: with ends between pixels,
        before as after, all centres are where they are when the whole is resized.
        """
        step = resized // gcd(size, resized)
        start, end = first // step * step, -(-(first + count) // step) * step
        return cls((start * size // resized, end * size // resized), (start, end))


def stack_images(images: Sequence[UInt8[Tensor, "3 h w"]]) -> Float[Tensor, "v 3 h w"]:
    """8-bit pictures as one tensor in [0, 1], written once: big copies cost as much as decoding."""
    stacked = torch.empty(len(images), *images[0].shape)
    for place, image in zip(stacked, images, strict=True):
        place.copy_(image)
    return stacked.div_(255)


def crop_depth(depth: np.ndarray, shape: Shape) -> Float[Tensor, "h w"]:
    """The crop of :func:`crop_image` for depth [h, w]; each pixel takes its nearest one's value."""
    resized, corner = cover((depth.shape[0], depth.shape[1]), shape)
    centres = [np.arange(shape[axis]) + corner[axis] + 0.5 for axis in (0, 1)]
    rows, columns = (
        (centre * (size / new)).astype(int)
        for centre, size, new in zip(centres, depth.shape, resized, strict=True)
    )
    return torch.from_numpy(depth[rows[:, None], columns]).float()


def crop_intrinsics(
    intrinsics: Float[Tensor, "*n 3 3"], frame: Shape, shape: Shape
) -> Float[Tensor, "*n 3 3"]:
    """The normalised intrinsics of :func:`crop_image`'s result, from those of the whole frame."""
    resized, corner = cover(frame, shape)
    crop = torch.eye(3, dtype=intrinsics.dtype)
    for row, axis in ((0, 1), (1, 0)):
        crop[row, row] = resized[axis] / shape[axis]
        crop[row, 2] = -corner[axis] / shape[axis]
    return crop @ intrinsics


class Window(NamedTuple):
    """A part of a picture, in its pixels; need not end between pixels."""

    left: float
    top: float
    right: float
    bottom: float


def window_image(image: Image.Image, window: Window, shape: Shape) -> UInt8[Tensor, "3 h w"]:
    """A window of an 8-bit RGB picture, resized to ``shape`` with Lanczos."""
    resized = image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS, box=window)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def window_depth(depth: np.ndarray, window: Window, shape: Shape) -> Float[Tensor, "h w"]:
    """The same for depth [h, w]; each pixel takes its nearest one's value."""
    rows = window.top + (np.arange(shape[0]) + 0.5) * (window.bottom - window.top) / shape[0]
    columns = window.left + (np.arange(shape[1]) + 0.5) * (window.right - window.left) / shape[1]
    return torch.from_numpy(depth[rows.astype(int)[:, None], columns.astype(int)]).float()


def window_intrinsics(
    intrinsics: Float[Tensor, "*n 3 3"], frame: Shape, window: Window
) -> Float[Tensor, "*n 3 3"]:
    """The normalised intrinsics of a window, from those of the whole frame."""
    height, width = frame
    crop = torch.eye(3, dtype=intrinsics.dtype)
    crop[0, 0] = width / (window.right - window.left)
    crop[0, 2] = -window.left / (window.right - window.left)
    crop[1, 1] = height / (window.bottom - window.top)
    crop[1, 2] = -window.top / (window.bottom - window.top)
    return crop @ intrinsics


def flip_views(views: Views) -> Views:
    """Mirror left and right: the views of the scene's mirror image in the world's x = 0 plane.

    With F = diag(-1, 1, 1, 1), extrinsics E become F E F, and the intrinsics those of a picture
    whose pixel (u, v) was at (1 - u, v) before.
    """
    sign = torch.tensor([-1.0, 1.0, 1.0, 1.0]).to(views.extrinsics)
    intrinsics = views.intrinsics.clone()
    intrinsics[..., 0, 1] = -intrinsics[..., 0, 1]
    intrinsics[..., 0, 2] = 1 - intrinsics[..., 0, 2]
    return replace(
        views,
        image=views.image.flip(-1),
        extrinsics=sign[:, None] * views.extrinsics * sign,
        intrinsics=intrinsics,
        depth=None if views.depth is None else views.depth.flip(-1),
    )


def flip_batch(batch: Batch) -> Batch:
    """Mirror all views of a batch left and right."""
    return replace(batch, context=flip_views(batch.context), target=flip_views(batch.target))
