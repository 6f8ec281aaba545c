"""Picture files as they are stored: decoded, or only what their headers say."""

from pathlib import Path

import numpy as np
from PIL import Image

from mvsplat.data.faults import DECODING_ERRORS
from mvsplat.data.picture_formats import FORMATS, why_unreadable
from mvsplat.data.untrusted import is_file


def open_picture(path: Path) -> Image.Image:
    """A picture file, decoded, of any mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no picture, or has more pixels than PIL allows.
    """
    if not is_file(path):
        raise FileNotFoundError(f"there is no picture {path}")
    try:
        if not path.stat().st_size:
            raise ValueError("cannot identify a picture in an empty file")
        picture = Image.open(path, formats=FORMATS)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and picture.width * picture.height > limit:
            raise ValueError(
                f"{picture.width} x {picture.height} pixels are over the limit, {limit}"
            )
        picture.load()
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {why_unreadable(error, path)}") from error
    return picture


def picture_size(path: Path) -> tuple[int, int]:
    """A picture's width and height, from its header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or no picture.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.size
    except FileNotFoundError:
        raise
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {why_unreadable(error, path)}") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB: transparent pictures on white, 16-bit ones by their upper 8 bits."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or picture.mode == "I":
        upper = np.clip(np.asarray(picture, dtype=np.int64) >> 8, 0, 255)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if is_transparent(picture):
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


def is_transparent(picture: Image.Image) -> bool:
    """Whether a picture says of its pixels how opaque they are."""
    if picture.mode.startswith(("I", "F")):
        return False
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def says_transparent(path: Path) -> bool:
    """What a picture's header says, without decoding it; of one that cannot be read, True."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return is_transparent(picture)
    except DECODING_ERRORS:
        return True


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other one, scaled and rounded to whole pixels."""
    (w, h), (x, y) = size, other
    return abs(w * y - h * x) <= max(w + h, x + y)
