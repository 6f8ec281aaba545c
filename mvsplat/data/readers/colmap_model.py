"""COLMAP's model files, text and binary: cameras, images and points.

An image's quaternion (w, x, y, z) and translation map world to camera coordinates (OpenCV axes).
Principal points count from the top left corner of the top left pixel. Everything declared is
checked against the file's size before it is read.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.readers.colmap_cameras import MODEL_NAMES, colmap_lens, parameter_count
from mvsplat.data.readers.lens import Lens
from mvsplat.data.untrusted import is_file, read_text
from mvsplat.geometry.rotations import quaternion_to_matrix

_LONGEST_NAME = 4096


class ColmapImage(NamedTuple):
    """A registered image: its file's name, its camera's number, camera-to-world [4, 4]."""

    name: str
    camera: int
    extrinsics: Tensor


@dataclass(frozen=True)
class ColmapModel:
    """A folder of ``cameras``, ``images`` and ``points3D``, ``.bin`` or ``.txt``.

    Raises:
        FileNotFoundError: ``cameras`` or ``images`` is missing (on reading).
        ValueError: A file is damaged; names the file and the line or record (on reading).
    """

    folder: Path

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds a model."""
        return any(
            is_file(folder / f"cameras{kind}") and is_file(folder / f"images{kind}")
            for kind in (".bin", ".txt")
        )

    @property
    def is_binary(self) -> bool:
        """Whether the files are binary; where there are both, binary ones count, as in COLMAP."""
        return is_file(self.folder / "cameras.bin") and is_file(self.folder / "images.bin")

    def path(self, table: str) -> Path:
        """The file of ``cameras``, ``images`` or ``points3D``."""
        return self.folder / f"{table}{'.bin' if self.is_binary else '.txt'}"

    def cameras(self) -> dict[int, Lens]:
        """Lenses by camera number."""
        path = self.path("cameras")
        cameras: dict[int, Lens] = {}
        for where, record in _cameras_binary(path) if self.is_binary else _cameras_text(path):
            number, model, size, parameters = record
            try:
                if number in cameras:
                    raise ValueError(f"camera {number} is there twice")
                cameras[number] = colmap_lens(model, size, parameters)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        return cameras

    def images(self) -> list[ColmapImage]:
        """Images in the file's order."""
        path = self.path("images")
        images: list[ColmapImage] = []
        for where, record in _images_binary(path) if self.is_binary else _images_text(path):
            quaternion, translation, camera, name = record
            try:
                images.append(ColmapImage(name, camera, _camera_to_world(quaternion, translation)))
            except ValueError as error:
                raise ValueError(f"{where}, image {name[:100]!r}: {error}") from error
        return images

    def image_count(self) -> int:
        """Number of images."""
        if self.is_binary:
            return _Binary(self.path("images")).number("Q")
        return sum(1 for _ in _images_text(self.path("images")))

    def points(self) -> Float[Tensor, "p 3"] | None:
        """The sparse points, or None if there is no such file."""
        path = self.path("points3D")
        if not is_file(path):
            return None
        points = _points_binary(path) if self.is_binary else _points_text(path)
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
        data = self._take(int(ends[0]) + 1)[:-1].tobytes()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is damaged: a name is no text: {error}") from error

    def skip(self, size: int) -> None:
        self._take(size)

    def _take(self, size: int) -> np.ndarray:
        if size > len(self.bytes) - self.place:
            raise ValueError(f"{self.path} is damaged: it ends in the middle of a record")
        self.place += size
        return self.bytes[self.place - size : self.place]


def _cameras_binary(path: Path) -> Iterator[tuple[str, tuple]]:
    file = _Binary(path)
    for position in range(file.count("cameras", 48)):
        number, model, width, height = file.numbers("iiQQ")
        where = f"{path}, record {position}"
        if not 0 <= model < len(MODEL_NAMES):
            raise ValueError(f"{where}: camera model number {model} is not supported")
        name = MODEL_NAMES[model]
        parameters = file.numbers(f"{parameter_count(name)}d")
        yield where, (number, name, (width, height), parameters)


def _images_binary(path: Path) -> Iterator[tuple[str, tuple]]:
    file = _Binary(path)
    for position in range(file.count("images", 73)):
        values = file.numbers("i7di")
        name = file.text()
        file.skip(24 * file.count("points of an image", 24))
        yield f"{path}, record {position}", (values[1:5], values[5:8], values[8], name)


def _points_binary(path: Path) -> np.ndarray:
    file = _Binary(path)
    points = np.empty((file.count("points", 51), 3))
    for position in range(len(points)):
        points[position] = file.numbers("Q3d3Bd")[1:4]
        file.skip(8 * file.count("views of a point", 8))
    return points


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are no comments, empty ones too, with where they are."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.lstrip().startswith("#"):
            yield f"{path}, line {number}", line.strip()


def _cameras_text(path: Path) -> Iterator[tuple[str, tuple]]:
    for where, line in _lines(path):
        if not line:
            continue
        words = line.split()
        if len(words) < 5:
            raise ValueError(f"{where}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS...")
        number, width, height = (_whole(word, where) for word in (words[0], *words[2:4]))
        parameters = tuple(_decimal(word, where) for word in words[4:])
        yield where, (number, words[1], (width, height), parameters)


def _images_text(path: Path) -> Iterator[tuple[str, tuple]]:
    """Every image has two lines, the second of which (its 2-D points) may be empty."""
    lines = _lines(path)
    for where, line in lines:
        if not line:
            continue
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise ValueError(f"{where}: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
        numbers = tuple(_decimal(word, where) for word in words[1:8])
        yield where, (numbers[:4], numbers[4:], _whole(words[8], where), words[9])
        next(lines, None)


def _points_text(path: Path) -> np.ndarray:
    points = []
    for where, line in _lines(path):
        if not line:
            continue
        words = line.split(maxsplit=4)
        if len(words) < 4:
            raise ValueError(f"{where}: expected POINT3D_ID X Y Z ...")
        points.append([_decimal(word, where) for word in words[1:4]])
    return np.array(points, dtype=np.float64).reshape(-1, 3)


def _camera_to_world(
    quaternion: tuple[float, ...], translation: tuple[float, ...]
) -> Float[Tensor, "4 4"]:
    """The inverse of a world-to-camera quaternion and translation."""
    if not all(map(math.isfinite, (*quaternion, *translation))):
        raise ValueError("a number of its pose is not finite")
    turn = torch.tensor(quaternion, dtype=torch.float64)
    if turn.norm() < 1e-6:
        raise ValueError("its quaternion is zero")
    rotation = quaternion_to_matrix(turn / turn.norm())
    extrinsics = torch.eye(4, dtype=torch.float64)
    extrinsics[:3, :3] = rotation.mT
    extrinsics[:3, 3] = -rotation.mT @ torch.tensor(translation, dtype=torch.float64)
    return extrinsics


def _whole(word: str, where: str) -> int:
    if not word.lstrip("-").isdecimal() or len(word) > 18:
        raise ValueError(f"{where}: {word[:50]!r} is no whole number")
    return int(word)


def _decimal(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{where}: {word[:50]!r} is no number") from None
