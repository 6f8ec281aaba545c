"""Scenes of picture files with cameras, whatever format the cameras came in.

Orientation: cameras belong to stored pixels. A picture whose EXIF data say it is to be rotated is
rotated only if its camera is of the rotated size; where the sizes do not tell, the stored pixels
are taken and a warning is given, once a scene.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.faults import DECODING_ERRORS
from mvsplat.data.readers.lens import Lens
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import in_natural_order, is_file

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")
_ORIENTATION = 0x0112
_log = logging.getLogger("mvsplat.data")


@dataclass(frozen=True)
class Photo:
    """A picture file with its camera.

    Args:
        path: The file.
        name: What the data calls it.
        lens: Its camera's lens.
        extrinsics: Its camera-to-world matrix [4, 4] (OpenCV axes, float64).
    """

    path: Path
    name: str
    lens: Lens
    extrinsics: Tensor


class PhotoScene(Scene):
    """A scene of picture files; pictures are decoded and undistorted when asked for.

    Args:
        key: The scene's name.
        photos: Its frames, brought into the natural order of their names unless ``ordered``.
        origin: The file or folder the cameras are from, for messages.
        near, far: Depth bounds, where the data has them.
        load_points: Reads the sparse points [p, 3], where the data has them.
        left_out: Frames that cannot be used: reason to names.
        ordered: Whether the frames are in order already.

    Raises:
        ValueError: There are no frames, one is there twice, or a camera makes no sense.
    """

    def __init__(
        self,
        key: str,
        photos: Iterable[Photo],
        origin: Path | str,
        near: float | None = None,
        far: float | None = None,
        load_points: Callable[[], Tensor | None] | None = None,
        left_out: Mapping[str, Sequence[str]] | None = None,
        ordered: bool = False,
    ) -> None:
        photos = list(photos)
        self.key = key
        self.origin = origin
        self.near, self.far = near, far
        self.left_out = left_out or {}
        if not photos:
            reasons = "; ".join(
                f"{len(names)} {reason}: {names[0][:200]}{', ...' if len(names) > 1 else ''}"
                for reason, names in self.left_out.items()
            )
            raise ValueError(f"{origin}: no frame can be used ({reasons or 'none is named'})")
        if not ordered:
            photos = [photos[i] for i in in_natural_order([photo.name for photo in photos])]
        self.photos = photos
        self.frame_names = [photo.name for photo in photos]
        self._load_points = load_points
        self._points: Tensor | None = None
        self._warned = False
        seen: set[Path] = set()
        for photo in photos:
            if photo.path in seen:
                raise ValueError(f"{origin}: the picture {photo.name!r} is there twice")
            seen.add(photo.path)
        self.extrinsics, self.intrinsics = self._cameras()

    @property
    def points(self) -> Float[Tensor, "p 3"] | None:  # type: ignore[override]
        """Sparse points in world space, read on first use."""
        if self._points is None and self._load_points is not None:
            points = self._load_points()
            self._points = None if points is None else points[points.isfinite().all(-1)]
            self._load_points = None
        return self._points

    def image(self, index: int) -> Image.Image:
        photo = self.photos[index]
        picture = open_picture(photo.path)
        return photo.lens.undistort(self._oriented(picture, photo))

    def encoded(self, index: int) -> bytes | None:
        photo = self.photos[index]
        if photo.lens.distortion is not None or photo.path.suffix.lower() not in (".jpg", ".jpeg"):
            return None
        try:
            with Image.open(photo.path, formats=["JPEG"]) as picture:
                as_it_is = picture.mode == "RGB" and picture.getexif().get(_ORIENTATION, 1) == 1
        except DECODING_ERRORS:
            return None
        return photo.path.read_bytes() if as_it_is else None

    def _oriented(self, picture: Image.Image, photo: Photo) -> Image.Image:
        """The RGB picture with the pixels that the camera describes."""
        size = photo.lens.size
        turn = picture.getexif().get(_ORIENTATION, 1)
        if size is None or _same_shape(picture.size, size):
            if turn not in (0, 1) and not self._warned:
                self._warned = True
                _log.warning(
                    "%s: %s is marked as rotated (EXIF orientation %s), but its camera is of the "
                    "pixels as they are stored, which are taken",
                    self.key,
                    photo.path,
                    turn,
                )
            return to_rgb(picture)
        if turn > 4 and _same_shape(picture.size[::-1], size):
            return to_rgb(ImageOps.exif_transpose(picture))
        raise ValueError(
            f"{photo.path} is {picture.width} x {picture.height} pixels, its camera in "
            f"{self.origin} is of {size[0]} x {size[1]}, another shape; was it cropped or rotated "
            "after the cameras were found?"
        )

    def _cameras(self) -> tuple[Tensor, Tensor]:
        extrinsics = torch.stack([photo.extrinsics for photo in self.photos])
        try:
            intrinsics = torch.stack([photo.lens.intrinsics for photo in self.photos])
            check_cameras(extrinsics, intrinsics, self.frame_names)
        except ValueError as error:
            raise ValueError(f"{self.origin}, scene {self.key!r}: {error}") from error
        return extrinsics.float(), intrinsics


def open_picture(path: Path) -> Image.Image:
    """A picture file, decoded, of any mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no picture, or has more pixels than PIL allows.
    """
    if not is_file(path):
        raise FileNotFoundError(f"there is no picture {path}")
    try:
        picture = Image.open(path, formats=_FORMATS)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and picture.width * picture.height > limit:
            raise ValueError(
                f"{picture.width} x {picture.height} pixels are over the limit, {limit}"
            )
        picture.load()
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
    return picture


def picture_size(path: Path) -> tuple[int, int]:
    """A picture's width and height, from its header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or no picture.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            return picture.size
    except FileNotFoundError:
        raise
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB: transparent pictures on white, 16-bit ones by their upper 8 bits."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or picture.mode == "I":
        upper = np.clip(np.asarray(picture, dtype=np.int64) >> 8, 0, 255)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other one, scaled and rounded to whole pixels."""
    (w, h), (x, y) = size, other
    return abs(w * y - h * x) <= x + y
