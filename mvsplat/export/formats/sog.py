"""PlayCanvas' SOG, version 2: Gaussians as pixels of lossless WebP pictures.

``meta.json`` names the pictures, in a folder or in an archive (``.sog``, a zip file). Pixels in
reading order are Gaussians. Positions are 16-bit shares between the lowest and highest of
sign(p) log(1 + |p|), low and high bytes in two pictures; logarithms of scales and constant
harmonics are numbers of a codebook's entries; opacities are bytes; rotations are the three smaller
components as bytes, and which of w, x, y, z is missing as 252 to 255. The other harmonics are
those of one of up to 65,536 palette entries, which are rows of 64 in a picture, a pixel for each
coefficient. Written is version 2, of which this is the layout.
Specification: https://developer.playcanvas.com, "The SOG Format".
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mvsplat.export.formats.codebooks import nearest_number, number_codebook, vector_codebook
from mvsplat.export.formats.packing import morton_order, smallest_three, to_bytes, unit
from mvsplat.export.formats.sog_pictures import FolderOfPictures, ZippedPictures
from mvsplat.export.formats.sog_reading import check, read
from mvsplat.export.splat_format import SplatFormat
from mvsplat.files import replacing
from mvsplat.geometry.spherical_harmonics import degree_of
from mvsplat.types import Gaussians

_ENTRIES = 256
_PALETTE_ROW = 64
_LARGEST_PALETTE = 1 << 16
_EFFORT = 3
"""Of WebP's encoder, 0 to 6: more takes several times as long for a few per cent."""


class SogFormat(SplatFormat):
    """The format ``.sog``."""

    about = "PlayCanvas' SOG"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        write_archive(gaussians, path)

    def read(self, path: Path) -> Gaussians:
        with ZippedPictures(path) as pictures:
            return read(pictures)

    def check(self, path: Path) -> None:
        with ZippedPictures(path) as pictures:
            check(pictures)


class SogFolderFormat(SplatFormat):
    """The format of a folder with a ``meta.json``, whose pictures are written beside it."""

    about = "PlayCanvas' SOG, as a folder of pictures"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        # The text comes last: a folder is of use only once all that it names is there.
        for name, content in _files(gaussians):
            if name == "meta.json":
                path.write_bytes(content)
                continue
            with replacing(path.with_name(name)) as temporary:
                temporary.write_bytes(content)

    def read(self, path: Path) -> Gaussians:
        return read(FolderOfPictures(path))

    def check(self, path: Path) -> None:
        check(FolderOfPictures(path))


def write_archive(gaussians: Gaussians, file: Path | io.BytesIO) -> None:
    """Write a batch of one scene as an archive to a file."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in _files(gaussians):
            archive.writestr(zipfile.ZipInfo(name), content)


def _files(gaussians: Gaussians) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a scene's files, ``meta.json`` last."""
    count = gaussians.means.shape[1]
    degree = degree_of(gaussians.harmonics.shape[-1])
    if count == 0 or degree > 3:
        raise ValueError(
            "at least one Gaussian, with harmonics of degree 0 to 3, can be held; found "
            f"{count} of degree {degree}"
        )
    order = morton_order(gaussians.means[0].cpu())
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": "mvsplat"}, "count": count}
    parts = [_means, _scales, _rotations, _colors] + ([_rest] if degree else [])
    for name, part in zip(("means", "scales", "quats", "sh0", "shN"), parts, strict=False):
        facts, pictures = part(gaussians, order)
        meta[name] = facts | {"files": list(pictures)}
        for file, pixels in pictures.items():
            yield file, _webp(pixels)
    yield "meta.json", json.dumps(meta).encode()


def _means(gaussians: Gaussians, order: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    means = gaussians.means[0].cpu()[order].double()
    logs = means.sign() * means.abs().log1p()
    low, high = logs.amin(0), logs.amax(0)
    steps = ((logs - low) / (high - low).clamp(min=1e-12) * 65535).round().long().numpy()
    pictures = {
        "means_l.webp": _pixels((steps & 255).astype(np.uint8)),
        "means_u.webp": _pixels((steps >> 8).astype(np.uint8)),
    }
    return {"mins": low.tolist(), "maxs": high.tolist()}, pictures


def _scales(gaussians: Gaussians, order: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    logs = gaussians.scales[0].cpu().float()[order].clamp(min=1e-30).log()
    codebook = number_codebook(logs.flatten(), _ENTRIES)
    labels = nearest_number(logs, codebook).numpy().astype(np.uint8)
    return {"codebook": _short(codebook)}, {"scales.webp": _pixels(labels)}


def _rotations(gaussians: Gaussians, order: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    largest, others = smallest_three(unit(gaussians.rotations[0].cpu().float()[order]))
    components = to_bytes((others * 0.5**0.5 + 0.5) * 255).numpy()
    which = (largest + 252).numpy().astype(np.uint8)[:, None]
    return {}, {"quats.webp": _pixels(np.concatenate([components, which], -1))}


def _colors(gaussians: Gaussians, order: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    constant = gaussians.harmonics[0, :, :, 0].cpu().float()[order]
    codebook = number_codebook(constant.flatten(), _ENTRIES)
    labels = nearest_number(constant, codebook).numpy().astype(np.uint8)
    opacities = to_bytes(255 * gaussians.opacities[0].cpu().float()[order, None]).numpy()
    pixels = _pixels(np.concatenate([labels, opacities], -1))
    return {"codebook": _short(codebook)}, {"sh0.webp": pixels}


def _rest(gaussians: Gaussians, order: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    harmonics = gaussians.harmonics[0, :, :, 1:].cpu().float()[order]
    count, coefficients = len(harmonics), harmonics.shape[-1]
    entries, labels = vector_codebook(harmonics.flatten(1), _palette_size(count))
    codebook = number_codebook(entries.flatten(), _ENTRIES)
    rows = -(-len(entries) // _PALETTE_ROW)
    palette = np.zeros((rows * _PALETTE_ROW, coefficients, 3), np.uint8)
    numbers = nearest_number(entries, codebook).view(-1, 3, coefficients)
    palette[: len(entries)] = numbers.mT.numpy()
    pictures = {
        "shN_centroids.webp": palette.reshape(rows, _PALETTE_ROW * coefficients, 3),
        "shN_labels.webp": _pixels(
            np.stack([labels & 255, labels >> 8, torch.zeros_like(labels)], -1).astype(np.uint8)
        ),
    }
    facts = {
        "count": len(entries),
        "bands": degree_of(coefficients + 1),
        "codebook": _short(codebook),
    }
    return facts, pictures


def _short(codebook: Tensor) -> list[float]:
    """Numbers with as many digits as they need: of thousands of entries the text is not small."""
    return [float(f"{value:.7g}") for value in codebook.tolist()]


def _palette_size(count: int) -> int:
    """An entry for up to two Gaussians, a power of two: a palette takes most of a small file."""
    size = 1024
    while 2 * size <= min(count, _LARGEST_PALETTE):
        size *= 2
    return size


def _pixels(rows: UInt8[np.ndarray, "n c"]) -> UInt8[np.ndarray, "h w c"]:
    """Gaussians as pixels of a picture that is about square, black at its end."""
    width = 4 * -(-int(np.ceil(len(rows) ** 0.5)) // 4)
    height = 4 * -(-len(rows) // width // 4) or 4
    height += 4 * (width * height < len(rows))
    filled = np.zeros((height * width, rows.shape[1]), np.uint8)
    filled[: len(rows)] = rows
    return filled.reshape(height, width, -1)


def _webp(pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.save(file, "WEBP", lossless=True, quality=50, method=_EFFORT, exact=True)
    return file.getvalue()
