"""What a picture's pixels say about it: how blurred it is, and whether it shows the same again."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from mvsplat.refinement.photographs import Photograph

_WINDOW = 11
# The model sees pictures of this order of size: blur that vanishes on the way there does no harm.
_BLUR_SIDE = 512
_FINGERPRINT_SIDE = 32


def blur(image: Image.Image) -> float:
    """How blurred a picture is: 0 sharp, 1 without any detail.

    The picture is blurred once more, along its rows and along its columns: the less its
    differences between neighbouring pixels shrink, the more it was blurred already (Crete et al.,
    "The blur effect", SPIE 2007). Pictures larger than 512 pixels are reduced first.
    """
    if max(image.size) > _BLUR_SIDE:
        scale = _BLUR_SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    grey = np.asarray(image.convert("L"), np.float32) / 255
    return max(_blur_along(grey), _blur_along(grey.T))


def blur_of(photo: Photograph) -> float:
    """How blurred a photograph is, as :func:`blur` tells it."""
    return blur(Image.fromarray(photo.pixels.permute(1, 2, 0).contiguous().numpy()))


def fingerprint(image: Image.Image) -> Float[np.ndarray, "32 32 3"]:
    """A tiny picture of the picture, to compare by :func:`same_picture`."""
    side = (_FINGERPRINT_SIDE, _FINGERPRINT_SIDE)
    return np.asarray(image.resize(side, Image.Resampling.BOX), np.float32)


def same_picture(first: Float[np.ndarray, "32 32 3"], second: Float[np.ndarray, "32 32 3"]) -> bool:
    """Whether two fingerprints differ by no more than another compression of one picture does."""
    difference = np.abs(first - second)
    return bool(difference.mean() < 1.5 and difference.max() < 12)


def _blur_along(grey: Float[np.ndarray, "h w"]) -> float:
    """The blur effect down the columns."""
    sharp = np.abs(_sobel(grey))
    removed = np.maximum(0, sharp - np.abs(_sobel(_smooth(grey))))
    total = float(sharp.sum())
    return 1.0 if total == 0 else 1 - float(removed.sum()) / total


def _smooth(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The mean of 11 pixels of a column; beyond the border the picture is mirrored."""
    half = _WINDOW // 2
    padded = np.pad(grey.astype(np.float64), ((half + 1, half), (0, 0)), mode="symmetric")
    sums = padded.cumsum(axis=0)
    return ((sums[_WINDOW:] - sums[:-_WINDOW]) / _WINDOW).astype(np.float32)


def _sobel(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h-2 w-2"]:
    """Differences down the columns, smoothed across them, without the border."""
    down = grey[2:] - grey[:-2]
    return (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
