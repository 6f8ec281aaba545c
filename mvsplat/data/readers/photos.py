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

from mvsplat.data.camera_checks import camera_problems
from mvsplat.data.faults import DECODING_ERRORS
from mvsplat.data.left_out import LeftOut, describe_left_out
from mvsplat.data.readers.finding import Found
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.masks import mask_file, mask_of
from mvsplat.data.readers.picture_files import (
    open_picture,
    same_shape,
    says_transparent,
    to_rgb,
)
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import in_natural_order

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
        mask: The file that the data names as its mask; None looks beside the picture.
    """

    path: Path
    name: str
    lens: Lens
    extrinsics: Tensor
    mask: Path | None = None


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
        found: Where their pictures were found, and which were not.
        notes: What else a user should know about how the data was read.

    Frames whose camera makes no sense, and second entries of the same picture, are left out, too.

    Raises:
        ValueError: No frame can be used; lists what was left out.
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
        found: Found | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.key = key
        self.origin = origin
        self.near, self.far = near, far
        found = found or Found()
        self.notes = [*found.notes, *notes]
        left_out = LeftOut.of(left_out)
        left_out.update_from(found.left_out)
        usable = _usable(photos, origin, left_out)
        self.left_out = left_out
        if not usable:
            reasons = describe_left_out(left_out) or "none is named"
            looked = f"; {found.looked}" if found.looked else ""
            raise ValueError(f"{origin}: no frame can be used ({reasons}{looked})")
        if not ordered:
            usable = [usable[i] for i in in_natural_order([photo.name for photo, _ in usable])]
        self.photos = photos = [photo for photo, _ in usable]
        self.frame_names = [photo.name for photo in photos]
        self._load_points = load_points
        self._points: Tensor | None = None
        self._warned = False
        self.extrinsics = torch.stack([photo.extrinsics for photo in photos]).float()
        self.intrinsics = torch.stack([intrinsics for _, intrinsics in usable])

    def tell(self) -> None:
        """Say in the log what a user should know about how the data was read."""
        for note in self.notes:
            _log.warning("%s: %s", self.key, note)
        if self.left_out:
            count = sum(len(names) for names in self.left_out.values())
            total = count + len(self)
            reasons = describe_left_out(self.left_out)
            _log.warning("%s: left out %d of %d frames: %s", self.key, count, total, reasons)

    @property
    def points(self) -> Float[Tensor, "p 3"] | None:  # type: ignore[override]
        """Sparse points in world space, read on first use."""
        if self._points is None and self._load_points is not None:
            load, self._load_points = self._load_points, None
            try:
                points = load()
            except (ValueError, OSError) as error:
                _log.warning("%s: its sparse points are left out: %s", self.key, error)
                points = None
            self._points = None if points is None else self._finite(points)
        return self._points

    def image(self, index: int) -> Image.Image:
        photo = self.photos[index]
        picture = open_picture(photo.path)
        return photo.lens.undistort(self._oriented(picture, photo))

    def mask(self, index: int) -> np.ndarray | None:
        """As :mod:`mvsplat.data.readers.masks` tells.

        Raises:
            ValueError: The picture or its mask is damaged, or they are of different shapes.
        """
        photo = self.photos[index]
        file = photo.mask or mask_file(photo.path, photo.name)
        if file is None and not says_transparent(photo.path):
            return None
        picture = open_picture(photo.path)
        turn = picture.getexif().get(_ORIENTATION, 1)
        shown = mask_of(picture, file, turn)
        if shown is None:
            return None
        shown.getexif()[_ORIENTATION] = turn
        upright = photo.lens.undistort(self._oriented(shown, photo))
        return np.asarray(upright)[..., 0] >= 128

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

    def _finite(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "q 3"]:
        good = points.isfinite().all(-1)
        if not good.all():
            bad = len(points) - int(good.sum())
            _log.warning("%s: left out %d points that are not finite", self.key, bad)
        return points[good]

    def _oriented(self, picture: Image.Image, photo: Photo) -> Image.Image:
        """The RGB picture with the pixels that the camera describes."""
        size = photo.lens.size
        turn = picture.getexif().get(_ORIENTATION, 1)
        if size is None or same_shape(picture.size, size):
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
        if turn > 4 and same_shape(picture.size[::-1], size):
            return to_rgb(ImageOps.exif_transpose(picture))
        raise ValueError(
            f"{photo.path} is {picture.width} x {picture.height} pixels, its camera in "
            f"{self.origin} is of {size[0]} x {size[1]}, another shape; was it cropped or rotated "
            "after the cameras were found?"
        )


def _usable(
    photos: Iterable[Photo], origin: Path | str, left_out: LeftOut
) -> list[tuple[Photo, Tensor]]:
    """Photos of which each has a picture of its own and a camera that makes sense, and their
    intrinsics [3, 3]."""
    usable: list[tuple[Photo, Tensor]] = []
    seen: set[Path] = set()
    for photo in photos:
        try:
            intrinsics = photo.lens.intrinsics
            if photo.path in seen:
                raise ValueError("the picture is there twice; its first camera is taken")
        except ValueError as error:
            left_out.add(f"{Path(origin).name}: {error}", photo.name)
        else:
            seen.add(photo.path)
            usable.append((photo, intrinsics))
    if not usable:
        return []
    problems = camera_problems(
        torch.stack([photo.extrinsics for photo, _ in usable]).float(),
        torch.stack([intrinsics for _, intrinsics in usable]),
    )
    for number, problem in problems.items():
        left_out.add(f"{Path(origin).name}: its camera {problem}", usable[number][0].name)
    return [pair for number, pair in enumerate(usable) if number not in problems]
