"""One photograph file of any kind as an upright 8-bit RGB picture, and what its EXIF says.

Rotation by EXIF is applied, transparency is laid over white, 16-bit and floating-point values are
brought to 8 bits, grey, palette and CMYK pictures become RGB. No metadata leaves this module but
the focal length and the camera's name. What is transparent, or black in the photograph's mask
(:mod:`mvsplat.data.readers.masks`), is told by a mask of the same size.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mvsplat.data.picture_formats import FORMATS, is_raw, why_unreadable
from mvsplat.data.readers.masks import mask_file, mask_of, reduced_mask

# A gigapixel of RGB is 3 GB: more is a mistake, or an attack.
MAX_PIXELS = 1_000_000_000
MIN_SIDE = 32
# The diagonal of a 36 x 24 mm negative, which "35 mm equivalent" focal lengths refer to.
_FILM_DIAGONAL = math.hypot(36, 24)
_EXIF_IFD, _MAKE, _MODEL = 0x8769, 0x010F, 0x0110
_FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x920A, 0xA405
_PIXEL_WIDTH, _FOCAL_PLANE_RESOLUTION, _FOCAL_PLANE_UNIT = 0xA002, 0xA20E, 0xA210
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0}
_ORIENTATION = 0x0112
_lifting = Lock()
_lifted: list[int | None] = []
# What brings a picture upright, by EXIF's number for how it lies.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class LoadedPhoto:
    """A photograph, ready to be used.

    Args:
        name: Its file's name, or a frame's number.
        image: The picture: RGB, upright, without metadata.
        focal_length: Focal length from EXIF in units of the picture's diagonal, if it is known;
            neither resizing nor turning the picture changes it.
        camera: What tells cameras apart: maker, model, focal length and the file's size.
        mask: White where pixels count, a grey picture of the same size; None where all do.
    """

    name: str
    image: Image.Image
    focal_length: float | None = None
    camera: str = ""
    mask: Image.Image | None = None


def load_photo(path: str | Path, longest: int | None = None) -> LoadedPhoto:
    """Read a photograph.

    Args:
        path: A file in one of the formats that are read everywhere (picture_formats).
        longest: Reduce the picture so that its longer side has at most so many pixels.

    Raises:
        ValueError: The file is no picture, is damaged, or is absurdly large or small; or its mask
            is damaged, of another shape, or leaves nothing of it.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        with any_size(), Image.open(path, formats=FORMATS) as image:
            if is_raw(path):
                raise UnidentifiedImageError
            _check_size(image, path)
            exif, details = _exif(image)
            focal_length = _focal_length(details, image.size)
            camera = _camera(exif, focal_length, image.size)
            turn = exif.get(_ORIENTATION, 1)
            try:
                picture, mask = prepare_with_mask(image, longest, turn, mask_file(path))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            return LoadedPhoto(path.name, picture, focal_length, camera, mask)
    except UnidentifiedImageError as error:
        reason = why_unreadable(error, path)
        raise ValueError(f"{path}: not a picture in a format that can be read: {reason}") from None
    except (OSError, SyntaxError, EOFError, IndexError, OverflowError, TypeError) as error:
        # Pillow's many ways to say that bytes are missing or make no sense.
        raise ValueError(f"{path}: the picture is damaged: {error}") from error


@contextmanager
def any_size() -> Iterator[None]:
    """Let Pillow open large pictures: it refuses 180 megapixels, and cameras exceed that."""
    # Pillow's limit is one for all threads: the first one lifts it, the last one puts it back.
    with _lifting:
        _lifted.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lifting:
            limit = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = limit


def prepare(image: Image.Image, longest: int | None = None, orientation: int = 1) -> Image.Image:
    """An opened picture as upright 8-bit RGB, reduced to at most ``longest`` pixels a side.

    Args:
        image: A picture of any mode.
        longest: Largest width and height of the result.
        orientation: How the picture lies, as EXIF numbers it (1: upright).
    """
    if longest is not None:
        # A JPEG decoder halves pictures at almost no cost; twice the size keeps Lanczos' quality.
        image.draft("RGB", (2 * longest, 2 * longest))
    image = _eight_bits(image)
    if longest is not None and max(image.size) > longest:
        image = _reduce(image, longest)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # Fresh pixels: nothing of the file (EXIF, comments, colour profile) comes along.
    return Image.fromarray(np.array(image.convert("RGB")))


def prepare_with_mask(
    image: Image.Image, longest: int | None = None, orientation: int = 1, file: Path | None = None
) -> tuple[Image.Image, Image.Image | None]:
    """An opened picture as :func:`prepare` has it, and white where its pixels count.

    Args:
        image: A picture of any mode.
        longest: Largest width and height of the result.
        orientation: How the picture lies, as EXIF numbers it (1: upright).
        file: Its mask, if there is one.

    Returns:
        The picture, and a grey picture of the same size; None in its place where all pixels count.

    Raises:
        ValueError: The mask is damaged or of another shape, or no pixel counts.
    """
    stored = mask_of(image, file, orientation)
    picture = prepare(image, longest, orientation)
    if stored is None:
        return picture, None
    if orientation in _UPRIGHT:
        stored = stored.transpose(_UPRIGHT[orientation])
    counted = reduced_mask(np.asarray(stored) > 0, (picture.height, picture.width))
    if not counted.any():
        raise ValueError("its mask leaves nothing of it")
    return picture, None if counted.all() else Image.fromarray(counted.astype(np.uint8) * 255)


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path}: {width} x {height} pixels found, expected at most {MAX_PIXELS:,} in all; "
            "reduce the picture first"
        )
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{path}: {width} x {height} pixels found, expected {MIN_SIDE} or more")


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something is transparent."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled(np.asarray(image))).convert("RGB")
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Grey levels of 16 or 32 bits, or floating point, as 8 bits.

    Whole numbers are 16-bit levels (65535 is white) unless they exceed that; floating-point values
    are in [0, 1] unless they exceed that, and then in [0, 255] or [0, 65535].
    """
    highest = float(np.nanmax(values)) if values.size else 0.0
    if not math.isfinite(highest):
        raise ValueError("its values are not finite")
    whites = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    white = next((white for white in whites if highest <= white), highest)
    scaled = np.nan_to_num(np.clip(values, 0, white).astype(np.float32)) * (255 / white)
    return (scaled + 0.5).astype(np.uint8)


def _reduce(image: Image.Image, longest: int) -> Image.Image:
    scale = longest / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _exif(image: Image.Image) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """EXIF's main entries and those on the exposure; hostile EXIF counts as none."""
    try:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(_EXIF_IFD))
    except Exception:  # Pillow raises anything here, and a photograph is usable without
        return {}, {}


def _camera(exif: Mapping[int, Any], focal_length: float | None, size: tuple[int, int]) -> str:
    parts = [str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
    parts += [f"{max(size)}x{min(size)}"]
    parts += [] if focal_length is None else [f"{focal_length:.4f}"]
    return " ".join(part for part in parts if part)


def _focal_length(details: Mapping[int, Any], size: tuple[int, int]) -> float | None:
    """The 35 mm equivalent is used first; else the length over the sensor's size."""
    film = _number(details.get(_FOCAL_LENGTH_35MM))
    if film is not None:
        return _plausible(film / _FILM_DIAGONAL)
    length = _number(details.get(_FOCAL_LENGTH))
    resolution = _number(details.get(_FOCAL_PLANE_RESOLUTION))
    unit = _MILLIMETRES.get(details.get(_FOCAL_PLANE_UNIT, 2))
    if length is None or resolution is None or unit is None:
        return None
    # Pixels a unit of the sensor count the camera's own pixels, whose number EXIF keeps.
    original = _number(details.get(_PIXEL_WIDTH)) or float(max(size))
    pixels = length * resolution / unit * max(size) / original
    return _plausible(pixels / math.hypot(*size))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _plausible(focal_length: float) -> float | None:
    """From fisheyes (5 mm) to long telephoto lenses (1.7 m); anything else is a wrong entry."""
    return focal_length if 0.12 < focal_length < 40 else None
