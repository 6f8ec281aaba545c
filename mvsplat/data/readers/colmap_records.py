"""COLMAP's tables as text, line by line, and what a record of any of its files means.

Every image has two lines, the second of which (its 2-D points) may be empty, and is missing in
files from which empty lines were stripped. A line that makes no sense spoils its own record only.
"""

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.readers.colmap_cameras import colmap_lens
from mvsplat.data.readers.lens import Lens
from mvsplat.data.untrusted import read_text
from mvsplat.geometry.rotations import quaternion_to_matrix

Words = tuple[float | int | str, ...]

# What stands where a number should, also cut short or not finite (nan, -nan(ind), 1.#QNAN).
_NUMBER = re.compile(
    r"[-+.\de]+|[-+]?(?:nan|inf)(?:\([a-z]*\)|inity)?|[-+]?\d\.#\w+", re.IGNORECASE
)
_NUMBERS = re.compile(r"[-+.\deE\s]*")
# So long a line is no image's.
_LONG_LINE = 5000
_log = logging.getLogger("mvsplat.data")


@dataclass(frozen=True)
class CameraRecord:
    """A camera as a file has it; numbers may still be words of a text.

    Args:
        where: The file and the line or record.
        id: Its number.
        model: COLMAP's name of its model.
        size: Width and height.
        parameters: Of the model.
    """

    where: str
    id: int | str
    model: str
    size: tuple[int | str, int | str]
    parameters: Words

    @property
    def number(self) -> int | None:
        """Its number, if it has one."""
        try:
            return _whole(self.id)
        except ValueError:
            return None

    def lens(self) -> Lens:
        """Its lens.

        Raises:
            ValueError: A number is none, or makes no sense; names it.
        """
        _whole(self.id)
        if not self.model:
            raise ValueError("expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS...")
        width, height = (_whole(word) for word in self.size)
        parameters = [_decimal(word) for word in self.parameters]
        return colmap_lens(self.model, (width, height), parameters)


@dataclass(frozen=True)
class ImageRecord:
    """An image as a file has it; numbers may still be words of a text.

    Args:
        where: The file and the line or record.
        words: Quaternion, translation, camera number.
        name: Its file's name.
    """

    where: str
    words: Words
    name: str

    def camera(self) -> int:
        """Its camera's number."""
        self._check_count()
        return _whole(self.words[7])

    def camera_to_world(self) -> Float[Tensor, "4 4"]:
        """Its pose, OpenCV axes.

        Raises:
            ValueError: A number is none, is not finite, or the quaternion is zero.
        """
        self._check_count()
        try:
            numbers = [_finite(word) for word in self.words[:7]]
        except ValueError as error:
            raise ValueError(f"a number of its pose makes no sense: {error}") from error
        turn = torch.tensor(numbers[:4], dtype=torch.float64)
        if turn.norm() < 1e-6:
            raise ValueError("its quaternion is zero")
        rotation = quaternion_to_matrix(turn / turn.norm())
        extrinsics = torch.eye(4, dtype=torch.float64)
        extrinsics[:3, :3] = rotation.mT
        extrinsics[:3, 3] = -rotation.mT @ torch.tensor(numbers[4:], dtype=torch.float64)
        return extrinsics

    def _check_count(self) -> None:
        if len(self.words) != 8:
            raise ValueError("expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")


def read_cameras(path: Path) -> Iterator[CameraRecord]:
    """The cameras of a cameras.txt."""
    for where, line in _lines(path):
        if line:
            words = line.split()
            number, model, width, height = [*words[:4], "", "", ""][:4]
            yield CameraRecord(where, number, model, (width, height), tuple(words[4:]))


def read_images(path: Path) -> Iterator[ImageRecord]:
    """The images of an images.txt, whether or not its empty lines were stripped."""
    points_follow = False
    for where, line in _lines(path):
        of_points = not line or _is_of_points(line)
        if points_follow and of_points:
            points_follow = False
        elif line:
            words = line.split(maxsplit=9)
            if len(words) == 10 and not of_points:
                yield ImageRecord(where, tuple(words[1:9]), words[9])
            else:
                yield ImageRecord(where, (), where if of_points else words[-1])
            points_follow = True


def read_points(path: Path) -> np.ndarray:
    """The points [p, 3] of a points3D.txt; those that make no sense are left out, and said so."""
    points, bad = [], []
    for where, line in _lines(path):
        words = line.split(maxsplit=4)
        try:
            if words:
                x, y, z = (_finite(word) for word in [*words[1:4], "", "", ""][:3])
                points.append((x, y, z))
        except ValueError as error:
            bad.append(f"{where}: {error}")
    if bad:
        total = len(points) + len(bad)
        _log.warning("%s: left out %d of %d points: %s", path, len(bad), total, bad[0])
    return np.array(points, dtype=np.float64).reshape(-1, 3)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are no comments, empty ones too, with where they are."""
    for number, line in enumerate(read_text(path, older_encoding=True).split("\n"), 1):
        if not line.lstrip().startswith("#"):
            yield f"{path.name}, line {number}", line.strip()


def _is_of_points(line: str) -> bool:
    """Whether a line of images.txt is one of 2-D points: X Y POINT3D_ID, as often as may be.

    Cut short, it still is of nothing but numbers; an image's line ends in a name. If the name is a
    number, too, it is the tenth word, and words of points come in threes.
    """
    if len(line) > _LONG_LINE and _NUMBERS.fullmatch(line):
        return True
    words = line.split()
    if not all(map(_NUMBER.fullmatch, words)):
        return False
    return len(words) != 10 or not (words[0].isdecimal() and words[8].isdecimal())


def _whole(word: float | int | str) -> int:
    if isinstance(word, int):
        return word
    word = str(word)
    if not word.lstrip("-").isdecimal() or len(word) > 18:
        raise ValueError(f"{word[:50]!r} is no whole number")
    return int(word)


def _decimal(word: float | int | str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{str(word)[:50]!r} is no number") from None


def _finite(word: float | int | str) -> float:
    number = _decimal(word)
    if not math.isfinite(number):
        raise ValueError(f"{str(word)[:50]!r} is not finite")
    return number
