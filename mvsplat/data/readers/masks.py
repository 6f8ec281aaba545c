"""Which pixels of a picture count: those that are opaque, and those that a mask has in white.

A mask is a picture file with black where pixels are ignored, named by the data or found where
COLMAP has it: of ``a.jpg`` it is ``masks/a.jpg.png`` (or ``masks/a.png``), beside the folder of the
pictures or in that folder. It may be of another size than its picture, but not of another shape.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageChops, ImageFilter

from mvsplat.data.readers.picture_files import is_transparent, open_picture, same_shape
from mvsplat.data.untrusted import is_file

FOLDER = "masks"
# From here on a pixel is more white than black, or more opaque than transparent.
_HALF = 128
# What lays an upright picture as it is stored, by EXIF's number; other turns keep the shape.
_AS_STORED = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def mask_file(picture: Path, name: str = "") -> Path | None:
    """A picture's mask, if there is one.

    Args:
        picture: The picture's file.
        name: What the data calls it; the folders in its name are those of its mask, too.
    """
    picture = Path(os.path.abspath(picture))
    for folder in _folders(picture, name):
        inside = picture.relative_to(folder)
        for masks in (folder / FOLDER, folder.parent / FOLDER):
            for file in (masks / f"{inside}.png", masks / inside.with_suffix(".png")):
                if file != picture and is_file(file):
                    return file
    return None


def _folders(picture: Path, name: str) -> Iterator[Path]:
    """The folder of a picture, and those above it as far as its name says where it is in them."""
    yield picture.parent
    for above, part in zip(list(picture.parents)[1:], PurePosixPath(name).parts[-2::-1]):
        if (above / part) not in picture.parents:
            return
        yield above


def mask_of(picture: Image.Image, file: Path | None, turn: int = 1) -> Image.Image | None:
    """Which pixels of a picture count, as it is stored: white in a grey picture of its size.

    Args:
        picture: The picture, which may not be decoded yet.
        file: Its mask, if there is one. It is of the stored pixels, unless only its upright
            shape fits.
        turn: How the stored pixels lie, as EXIF numbers it.

    Returns:
        The mask; None where nothing tells of any.

    Raises:
        ValueError: The mask is damaged, or of another shape than the picture.
    """
    shown = None
    if is_transparent(picture):
        shown = _white_from(picture.convert("RGBA").getchannel("A"), _HALF)
    if file is not None:
        beside = _beside(file, picture.size, turn)
        shown = beside if shown is None else ImageChops.darker(shown, beside)
    return shown


def _beside(file: Path, size: tuple[int, int], turn: int) -> Image.Image:
    """A file's mask for a picture of a size."""
    what = f"its mask {file.parent.name}/{file.name}"
    try:
        mask = open_picture(file)
    except (ValueError, OSError) as error:
        raise ValueError(f"{what}: {str(error).removeprefix(f'{file} ')}") from error
    fits = same_shape(mask.size, size)
    if turn in _AS_STORED and not fits and same_shape(mask.size[::-1], size):
        mask, fits = mask.transpose(_AS_STORED[turn]), True
    if not fits:
        raise ValueError(
            f"{what}: it is {mask.width} x {mask.height} pixels, but the picture is {size[0]} x "
            f"{size[1]}, another shape"
        )
    return _black_and_white(mask).resize(size, Image.Resampling.NEAREST)


def _black_and_white(mask: Image.Image) -> Image.Image:
    """A mask's grey levels told apart; of one without any light ones, all but black is white."""
    if mask.mode.startswith(("I", "F")):  # 16 bits and more
        return Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
    grey = mask.convert("L")
    has_light = np.asarray(grey).max() >= _HALF
    return _white_from(grey, _HALF if has_light else 1)


def _white_from(grey: Image.Image, level: int) -> Image.Image:
    return grey.point([255 * (value >= level) for value in range(256)])


def reduced_mask(mask: Bool[np.ndarray, "h w"], shape: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Which pixels of a reduced picture none but counting ones went into.

    Args:
        mask: Which pixels of the picture count.
        shape: Height and width that it is reduced to.
    """
    height, width = shape
    # The reach of resizing: what lies behind an edge shines through nearby.
    reach = 2 * (math.ceil(3 * mask.shape[1] / width) // 2) + 1 if width < mask.shape[1] else 1
    whole = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(reach))
    return np.asarray(whole.resize((width, height), Image.Resampling.NEAREST)) > 0
