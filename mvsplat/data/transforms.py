"""Crops and flips of pictures together with their cameras; pure functions.

Conventions are those of :mod:`mvsplat.types`: normalised intrinsics, pixel centres at half numbers.
Resizing a whole picture leaves normalised intrinsics as they are; cropping and flipping change them
exactly, the principal point too.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
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
    """Resize an 8-bit RGB picture to cover ``shape`` with Lanczos and crop its centre."""
    (height, width), (top, left) = cover((image.height, image.width), shape)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image))
    return pixels[top : top + shape[0], left : left + shape[1]].permute(2, 0, 1)


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
