"""COLMAP's model files, text and binary: cameras, images and points.

An image's quaternion (w, x, y, z) and translation map world to camera coordinates (OpenCV axes).
Principal points count from the top left corner of the top left pixel. Everything declared is
checked against the file's size before it is read.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.left_out import LeftOut
from mvsplat.data.readers.colmap_cameras import MODEL_NAMES, parameter_count
from mvsplat.data.readers.colmap_records import (
    CameraRecord,
    ImageRecord,
    read_cameras,
    read_images,
    read_points,
)
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.picture_names import decode_name
from mvsplat.data.untrusted import is_file

_LONGEST_NAME = 4096


class ColmapImage(NamedTuple):
    """A registered image: its file's name, its camera's number, camera-to-world [4, 4]."""

    name: str
    camera: int
    extrinsics: Tensor


@dataclass
class ColmapTables:
    """A model's cameras and images, as far as they can be used.

    Args:
        lenses: Lenses by camera number.
        bad_cameras: What is wrong with the others, by camera number; None if it has none.
        images: Images in the file's order.
        left_out: Images that cannot be used, by what is wrong with them.
    """

    lenses: dict[int, Lens]
    bad_cameras: dict[int | None, str]
    images: list[ColmapImage]
    left_out: LeftOut


@dataclass(frozen=True)
class ColmapModel:
    """A folder of ``cameras``, ``images`` and ``points3D``, ``.bin`` or ``.txt``.

    Args:
        folder: Where the files are.
        binary: Whether to read the binary ones; by default if there are some.

    Raises:
        FileNotFoundError: ``cameras`` or ``images`` is missing (on reading).
        ValueError: A file is damaged as a whole; names the file and the place (on reading).
    """

    folder: Path
    binary: bool | None = None

    @classmethod
    def all_in(cls, folder: Path) -> list["ColmapModel"]:
        """A folder's models: the binary one first, which counts where there are both, as in
        COLMAP."""
        models = [cls(folder, binary) for binary in (True, False)]
        return [m for m in models if is_file(m.path("cameras")) and is_file(m.path("images"))]

    @property
    def is_binary(self) -> bool:
        """Whether the files are binary."""
        if self.binary is not None:
            return self.binary
        return is_file(self.folder / "cameras.bin") and is_file(self.folder / "images.bin")

    def path(self, table: str) -> Path:
        """The file of ``cameras``, ``images`` or ``points3D``."""
        return self.folder / f"{table}{'.bin' if self.is_binary else '.txt'}"

    def tables(self) -> ColmapTables:
        """Cameras and images, and what is left out of them."""
        bad_cameras: dict[int | None, str] = {}
        left_out = LeftOut()
        return ColmapTables(self.cameras(bad_cameras), bad_cameras, self.images(left_out), left_out)

    def cameras(self, bad: dict[int | None, str] | None = None) -> dict[int, Lens]:
        """Lenses by camera number.

        Args:
            bad: Is told what is wrong with others, by camera number (None for one without).
        """
        path = self.path("cameras")
        lenses: dict[int, Lens] = {}
        bad = {} if bad is None else bad
        for record in _cameras_binary(path) if self.is_binary else read_cameras(path):
            try:
                lens = record.lens()
                number = record.number
                assert number is not None  # else it has no lens
                if lenses.setdefault(number, lens) != lens:
                    raise ValueError(f"camera {number} is there twice, and differs")
            except ValueError as error:
                bad[record.number] = f"{record.where}: {error}"
        return {number: lens for number, lens in lenses.items() if number not in bad}

    def images(self, left_out: LeftOut | None = None) -> list[ColmapImage]:
        """Images in the file's order.

        Args:
            left_out: Is told which others make no sense.
        """
        path = self.path("images")
        images: list[ColmapImage] = []
        left_out = LeftOut() if left_out is None else left_out
        for record in _images_binary(path) if self.is_binary else read_images(path):
            try:
                images.append(ColmapImage(record.name, record.camera(), record.camera_to_world()))
            except ValueError as error:
                left_out.add(f"{record.where}: {error}", record.name)
        return images

    def image_count(self) -> int:
        """Number of images."""
        if self.is_binary:
            return _Binary(self.path("images")).number("Q")
        return sum(1 for _ in read_images(self.path("images")))

    def points(self) -> Float[Tensor, "p 3"] | None:
        """The sparse points that make sense, or None if there is no such file."""
        path = self.path("points3D")
        if not is_file(path):
            return None
        points = _points_binary(path) if self.is_binary else read_points(path)
        return torch.from_numpy(points).float()


class _Binary:
    """Reads a binary file front to back, never past its end."""

    def __init__(self, path: Path) -> None:
        if not is_file(path):
            raise FileNotFoundError(f"there is no file {path}")
        self.path = path
        # Mapped, not read: the 2-D points of the images are most of it, and are passed over.
        self.bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, "u1")
        self.place = 0

    def numbers(self, layout: str) -> tuple:
        """The next numbers, little-endian, as in the struct module."""
        layout = f"<{layout}"
        data = self._take(struct.calcsize(layout))
        return struct.unpack(layout, data.tobytes())

    def number(self, layout: str) -> int:
        return self.numbers(layout)[0]

    def count(self, what: str, least_bytes: int) -> int:
        """A declared number of records, each of so many bytes at least."""
        count = self.number("Q")
        if count * least_bytes > len(self.bytes) - self.place:
            raise ValueError(
                f"{self.path} is damaged: it declares {count} {what}, for which its "
                f"{len(self.bytes)} bytes are too few"
            )
        return count

    def text(self) -> str:
        """A text that a zero byte ends."""
        window = self.bytes[self.place : self.place + _LONGEST_NAME]
        ends = np.flatnonzero(window == 0)
        if not len(ends):
            raise ValueError(f"{self.path} is damaged: no end of a name at byte {self.place}")
        return decode_name(self._take(int(ends[0]) + 1)[:-1].tobytes())

    def skip(self, size: int) -> None:
        self._take(size)

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Names the record in errors."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{error}, in {what}") from error

    def _take(self, size: int) -> np.ndarray:
        if size > len(self.bytes) - self.place:
            raise ValueError(f"{self.path} is damaged: it ends in the middle of a record")
        self.place += size
        return self.bytes[self.place - size : self.place]


def _cameras_binary(path: Path) -> Iterator[CameraRecord]:
    file = _Binary(path)
    count = file.count("cameras", 48)
    for position in range(count):
        with file.reading(f"camera {position + 1} of {count}"):
            number, model, width, height = file.numbers("iiQQ")
            where = f"{path.name}, record {position}"
            if not 0 <= model < len(MODEL_NAMES):
                # How many numbers follow is not known: where the next camera is, neither.
                yield CameraRecord(where, number, f"number {model}", (width, height), ())
                return
            name = MODEL_NAMES[model]
            parameters = file.numbers(f"{parameter_count(name)}d")
        yield CameraRecord(where, number, name, (width, height), parameters)


def _images_binary(path: Path) -> Iterator[ImageRecord]:
    file = _Binary(path)
    count = file.count("images", 73)
    for position in range(count):
        with file.reading(f"image {position + 1} of {count}"):
            values = file.numbers("i7di")
            name = file.text()
            file.skip(24 * file.count("points of an image", 24))
        yield ImageRecord(f"{path.name}, record {position}", values[1:9], name)


def _points_binary(path: Path) -> np.ndarray:
    file = _Binary(path)
    points = np.empty((file.count("points", 51), 3))
    for position in range(len(points)):
        points[position] = file.numbers("Q3d3Bd")[1:4]
        file.skip(8 * file.count("views of a point", 8))
    return points
