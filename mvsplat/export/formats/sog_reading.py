"""Reading PlayCanvas' SOG: pictures of a folder or an archive, no larger than they need be."""

import io
import json
import logging
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvsplat.export.formats.packing import batch_of_one, from_smallest_three
from mvsplat.types import Gaussians

_LONGEST_META, _PALETTE_ROW, _LARGEST_PALETTE = 1 << 24, 64, 1 << 16
_SPARE_PIXELS = 1 << 16
_FEWEST_TO_DOUBT = 1 << 20
_log = logging.getLogger("mvsplat.export")


class Pictures(ABC):
    """Files by name, and the path that messages name."""

    def __init__(self, path: Path):
        self.path = path

    @abstractmethod
    def content(self, name: str, longest: int) -> bytes:
        """A file's content.

        Raises:
            ValueError: There is no such file, or it is longer.
        """

    @abstractmethod
    def size(self) -> int:
        """Bytes of all that there is, roughly."""

    def damaged(self, what: str) -> ValueError:
        """An error that says what was found."""
        return ValueError(f"{self.path} is damaged: {what}")


class FolderOfPictures(Pictures):
    """Files beside a ``meta.json``; names that lead elsewhere are not followed."""

    def content(self, name: str, longest: int) -> bytes:
        plain = re.fullmatch(r"[\w.() -]+", name) and name not in (".", "..")
        path = self.path if name == "meta.json" else self.path.with_name(name) if plain else None
        if path is None or not path.is_file():
            raise self.damaged(f"it names the picture {name[:80]!r}, which is not beside it")
        if path.stat().st_size > longest:
            raise self.damaged(f"{name} has {path.stat().st_size} bytes")
        return path.read_bytes()

    def size(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.iterdir() if file.is_file())


class ZippedPictures(Pictures):
    """Files of an archive, of which nothing is unpacked to disk; a context manager.

    Args:
        path: The archive, or what messages name instead.
        content: The archive, if it is not a file of its own.

    Raises:
        ValueError: It is no zip file.
    """

    def __init__(self, path: Path, content: io.BytesIO | None = None):
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path if content is None else content)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path} is damaged, or no .sog file: {error}") from error

    def __enter__(self) -> "ZippedPictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def content(self, name: str, longest: int) -> bytes:
        try:
            with self._archive.open(name) as file:
                content = file.read(longest + 1)
        except KeyError:
            raise self.damaged(f"there is no {name[:80]!r} in it") from None
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error,
                OSError, ValueError) as error:  # fmt: skip
            raise self.damaged(f"{name[:80]!r} in it: {error}") from error
        if len(content) > longest:
            raise self.damaged(f"{name[:80]!r} in it has over {longest} bytes")
        return content

    def size(self) -> int:
        return self.path.stat().st_size


def check(pictures: Pictures) -> None:
    """Look whether the text is what it should be, without reading pictures.

    Raises:
        ValueError: It is not.
    """
    _Scene(pictures)


def read(pictures: Pictures) -> Gaussians:
    """The Gaussians of a scene's pictures.

    Raises:
        ValueError: Something is missing or damaged.
    """
    scene = _Scene(pictures)
    colors = scene.pixels("sh0", 0)
    constant = scene.codebook("sh0")[colors[:, :3]]
    return batch_of_one(
        means=scene.means(),
        scales=torch.from_numpy(scene.codebook("scales")[scene.pixels("scales", 0)[:, :3]]).exp_(),
        rotations=scene.rotations(),
        harmonics=torch.cat([torch.from_numpy(constant)[..., None], scene.rest()], -1),
        opacities=torch.from_numpy(colors[:, 3] / np.float32(255)),
    )


class _Scene:
    """What ``meta.json`` says, each part looked at when it is used."""

    def __init__(self, pictures: Pictures):
        self._pictures = pictures
        text = pictures.content("meta.json", _LONGEST_META)
        try:
            meta = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise pictures.damaged(f"meta.json is no JSON: {error}") from error
        if not isinstance(meta, dict) or not isinstance(meta.get("means"), dict):
            raise ValueError(f"{pictures.path} is no SOG: its meta.json describes something else")
        if meta.get("version") != 2:
            raise ValueError(
                f"{pictures.path} is of version {meta.get('version', 1)!r} of SOG, 2 is read: run "
                f"npx @playcanvas/splat-transform {pictures.path.name} scene.sog"
            )
        self._meta: dict[str, Any] = meta
        count = meta.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise pictures.damaged(
                f"a count of {count!r} found, expected how many Gaussians it has"
            )
        if count > max(_FEWEST_TO_DOUBT, pictures.size()):
            raise pictures.damaged(f"{count} Gaussians in {pictures.size()} bytes")
        self._count = count
        if meta.get("antialias") is True:
            _log.warning(
                "%s was trained with anti-aliasing, for which decoders lower the opacity of small "
                "Gaussians: render it with antialiased=True",
                pictures.path,
            )

    def means(self) -> Tensor:
        low, high = (self._numbers("means", name, 3) for name in ("mins", "maxs"))
        lower, upper = (self.pixels("means", number)[:, :3] for number in (0, 1))
        shares = (upper.astype(np.uint16) << 8 | lower) / np.float32(65535)
        logs = torch.from_numpy(low + shares * (high - low))
        return logs.sign() * logs.abs().expm1()

    def rotations(self) -> Tensor:
        pixels = self.pixels("quats", 0)
        others = (pixels[:, :3] / np.float32(255) - np.float32(0.5)) * np.float32(2**0.5)
        largest = torch.from_numpy(pixels[:, 3].astype(np.int64) - 252)
        if len(largest) and int(largest.min()) < 0:
            raise self._pictures.damaged(
                f"quats has alpha {int(largest.min()) + 252}, expected 252 to 255"
            )
        return from_smallest_three(largest, torch.from_numpy(others))

    def rest(self) -> Tensor:
        """Harmonics but the constant ones [n, 3, k - 1]."""
        part = self._meta.get("shN")
        if part is None:
            return torch.zeros(self._count, 3, 0)
        bands, entries = self._part("shN").get("bands"), self._part("shN").get("count")
        if bands not in (1, 2, 3) or not isinstance(entries, int):
            raise self._pictures.damaged(f"shN has {bands!r} bands and {entries!r} entries")
        coefficients = (bands + 1) ** 2 - 1
        codebook = self.codebook("shN")
        size = (_PALETTE_ROW * coefficients, -(-_LARGEST_PALETTE // _PALETTE_ROW))
        palette = self._picture(
            "shN", 0, lambda width, height: width == size[0] and height <= size[1]
        )
        palette = palette[..., :3].reshape(-1, coefficients, 3)
        labels = self.pixels("shN", 1)
        numbers = labels[:, 0].astype(np.int64) | labels[:, 1].astype(np.int64) << 8
        if int(numbers.max()) >= len(palette):
            raise self._pictures.damaged(
                f"shN has {len(palette)} entries, of which number {int(numbers.max())} is used"
            )
        values = torch.from_numpy(codebook[palette.transpose(0, 2, 1)])
        return values[torch.from_numpy(numbers)]

    def codebook(self, name: str) -> np.ndarray:
        values = self._part(name).get("codebook")
        if not isinstance(values, list) or len(values) > 256:
            raise self._pictures.damaged(f"{name} has no codebook of up to 256 numbers")
        codebook = np.zeros(256, np.float32)  # entries that are not given are not used
        codebook[: len(values)] = self._numbers(name, "codebook", len(values))
        return codebook

    def pixels(self, name: str, number: int) -> np.ndarray:
        """Red, green, blue and alpha of each Gaussian [n, 4]."""
        highest = 2 * self._count + _SPARE_PIXELS
        pixels = self._picture(name, number, lambda w, h: self._count <= w * h <= highest)
        return pixels.reshape(-1, 4)[: self._count]

    def _picture(self, name: str, number: int, fits: Any) -> np.ndarray:
        files = self._part(name).get("files")
        file = files[number] if isinstance(files, list) and number < len(files) else None
        if not isinstance(file, str):
            raise self._pictures.damaged(f"{name} names no picture {number}")
        longest = 4 * (2 * self._count + _SPARE_PIXELS) + (1 << 26)
        content = self._pictures.content(file, longest)
        try:
            with Image.open(io.BytesIO(content), formats=("WEBP", "PNG")) as image:
                if not fits(*image.size):
                    raise self._pictures.damaged(
                        f"{file} has {image.width} x {image.height} pixels for "
                        f"{self._count} Gaussians"
                    )
                return np.asarray(image.convert("RGBA"))
        except (OSError, SyntaxError, Image.DecompressionBombError, RuntimeError) as error:
            raise self._pictures.damaged(f"{file} is no picture: {error}") from error

    def _part(self, name: str) -> dict[str, Any]:
        part = self._meta.get(name)
        if not isinstance(part, dict):
            raise self._pictures.damaged(f"meta.json has no part {name}")
        return part

    def _numbers(self, name: str, key: str, count: int) -> np.ndarray:
        values = self._part(name).get(key)
        try:
            numbers = np.array(values, np.float32)
        except (TypeError, ValueError, OverflowError):
            numbers = np.zeros(0, np.float32)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise self._pictures.damaged(f"{key} of {name} are not {count} numbers")
        return numbers
