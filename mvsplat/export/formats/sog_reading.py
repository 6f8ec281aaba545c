"""Reading PlayCanvas' SOG, versions 1 and 2: pictures no larger than they need be."""

import io
import json
import logging
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvsplat.export.formats.packing import batch_of_one, from_smallest_three
from mvsplat.export.formats.sog_pictures import Pictures
from mvsplat.types import Gaussians

_LONGEST_META, _PALETTE_ROW, _LARGEST_PALETTE = 1 << 24, 64, 1 << 16
_SPARE_PIXELS = 1 << 16
_FEWEST_TO_DOUBT = 1 << 20
_PACKED = "quaternion_packed"
_BYTES = np.arange(256, dtype=np.float32) / np.float32(255)
_log = logging.getLogger("mvsplat.export")


def check(pictures: Pictures) -> None:
    """Look whether the text is what it should be, without reading pictures.

    Raises:
        ValueError: It is not.
    """
    _scene_of(pictures)


def read(pictures: Pictures) -> Gaussians:
    """The Gaussians of a scene's pictures.

    Raises:
        ValueError: Something is missing or damaged.
    """
    scene = _scene_of(pictures)
    constant, opacities = scene.colors()
    return batch_of_one(
        means=scene.means(),
        scales=scene.log_scales().exp_(),
        rotations=scene.rotations(),
        harmonics=torch.cat([constant[..., None], scene.rest()], -1),
        opacities=opacities,
    )


def _scene_of(pictures: Pictures) -> "_Scene":
    """What a scene's text says, by its version."""
    text = pictures.content("meta.json", _LONGEST_META)
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise pictures.damaged(f"meta.json is no JSON: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("means"), dict):
        raise ValueError(f"{pictures.path} is no SOG: its meta.json describes something else")
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise ValueError(f"{pictures.path} is of version {version!r} of SOG; 1 and 2 are read")
    return (_Scene if version == 2 else _EarlierScene)(pictures, meta)


class _Scene:
    """What ``meta.json`` says, each part looked at when it is used."""

    def __init__(self, pictures: Pictures, meta: dict[str, Any]):
        self._pictures, self._meta = pictures, meta
        count = self.declared_count()
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

    def declared_count(self) -> Any:
        return self._meta.get("count")

    def log_scales(self) -> Tensor:
        return torch.from_numpy(self.codebook("scales")[self.pixels("scales", 0)[:, :3]])

    def colors(self) -> tuple[Tensor, Tensor]:
        """Constant harmonics [n, 3] and opacities [n]."""
        pixels = self.pixels("sh0", 0)
        constant = torch.from_numpy(self.codebook("sh0")[pixels[:, :3]])
        return constant, torch.from_numpy(pixels[:, 3] / np.float32(255))

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
        bands = self.bands()
        if bands not in (1, 2, 3):
            raise self._pictures.damaged(f"shN has {bands!r} bands")
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

    def bands(self) -> Any:
        return self._part("shN").get("bands")

    def codebook(self, name: str) -> np.ndarray:
        values = self._part(name).get("codebook")
        if not isinstance(values, list) or len(values) > 256:
            raise self._pictures.damaged(f"{name} has no codebook of up to 256 numbers")
        codebook = np.zeros(256, np.float32)  # entries that are not given are not used
        if len(values) == 256 and values[0] is None:
            # Early writers lost the first entry; PlayCanvas' engine takes this one for it.
            codebook[1:] = self._finite(name, "codebook", values[1:], 255)
            codebook[0] = codebook[1] + (codebook[1] - codebook[255]) / 255
            return codebook
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
        return self._finite(name, key, self._part(name).get(key), count)

    def _finite(self, name: str, key: str, values: Any, count: int) -> np.ndarray:
        try:
            numbers = np.array(values, np.float32)
        except (TypeError, ValueError, OverflowError):
            numbers = np.zeros(0, np.float32)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise self._pictures.damaged(f"{key} of {name} are not {count} numbers")
        return numbers


class _EarlierScene(_Scene):
    """Version 1, whose text says no version: shares between lowest and highest, no codebooks.

    Opacities are shares of logits; how many Gaussians and harmonics there are is in shapes.
    """

    def declared_count(self) -> Any:
        shape = self._part("means").get("shape")
        return shape[0] if isinstance(shape, list) and shape else None

    def log_scales(self) -> Tensor:
        return self._shares("scales", 3)

    def colors(self) -> tuple[Tensor, Tensor]:
        values = self._shares("sh0", 4)
        return values[:, :3], values[:, 3].sigmoid()

    def rotations(self) -> Tensor:
        encoding = self._part("quats").get("encoding", _PACKED)
        if encoding != _PACKED:
            raise ValueError(
                f"{self._pictures.path} has rotations as {encoding!r}; {_PACKED!r} is read"
            )
        return super().rotations()

    def bands(self) -> Any:
        shape = self._part("shN").get("shape")
        values = shape[-1] if isinstance(shape, list) and shape else None
        return {9: 1, 24: 2, 45: 3}.get(values) if isinstance(values, int) else None

    def codebook(self, name: str) -> np.ndarray:
        """Entries from the lowest to the highest, one of each for all numbers."""
        low, high = (
            self._finite(name, key, [self._part(name).get(key)], 1) for key in ("mins", "maxs")
        )
        return low + _BYTES * (high - low)

    def _shares(self, name: str, columns: int) -> Tensor:
        """A part's picture, each channel between its own lowest and highest [n, columns]."""
        low, high = (self._numbers(name, key, columns) for key in ("mins", "maxs"))
        return torch.from_numpy(low + _BYTES[self.pixels(name, 0)[:, :columns]] * (high - low))
