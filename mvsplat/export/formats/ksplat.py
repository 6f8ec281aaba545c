"""The ``.ksplat`` format of mkkellogg's viewer, read: sections of Gaussians in buckets.

A header of 4096 bytes, one of 1024 for each section, then the sections: the sizes of the buckets
that are not full, the buckets' centres, and a row for each Gaussian: position, standard deviations,
rotation (w, x, y, z), red, green, blue and opacity (a byte each) and the other harmonics, each
degree's red first. In compression level 0 all these are floats; in 1 and 2 positions are 16-bit
steps from the bucket's centre and the others half-precision floats; in 2, harmonics are bytes.
Layout: https://github.com/mkkellogg/GaussianSplats3D.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.formats.packing import batch_of_one, to_constant, unit
from mvsplat.export.splat_format import SplatFormat
from mvsplat.types import Gaussians

_HEADER, _SECTION_HEADER = 4096, 1024
_HIGHEST_DEGREE = 3
_STEPS = (1, 32767, 32767)
"""Steps to half a bucket's side where a section does not say."""


class _Section(NamedTuple):
    gaussians: int
    room: int
    bucket_room: int
    buckets: int
    bucket_side: float
    bucket_bytes: int
    steps: int
    full: int
    partial: int
    degree: int


class KsplatFormat(SplatFormat):
    """The format ``.ksplat``, read only."""

    about = "mkkellogg's"

    def read(self, path: Path) -> Gaussians:
        data = np.fromfile(path, np.uint8)
        level, limits, sections = _headers(data[: 1 << 24].tobytes(), len(data), path)
        degree = max((section.degree for section in sections), default=0)
        parts, start = [], _HEADER + _SECTION_HEADER * len(sections)
        for number, section in enumerate(sections):
            row = _row(level, section.degree)
            rows_start = start + 4 * section.partial + section.bucket_bytes * section.buckets
            end = rows_start + row.itemsize * section.room
            if end > len(data) or section.gaussians > section.room:
                raise ValueError(
                    f"{path} is damaged: section {number} of {section.gaussians} Gaussians ends "
                    f"at byte {end} of {len(data)}"
                )
            rows = data[rows_start:end].view(row)[: section.gaussians]
            centers = None if level == 0 else _centers(data[start:rows_start], section, path)
            parts.append(_gaussians(rows, centers, section, limits, degree))
            start = end
        if not any(len(part[0]) for part in parts):
            raise ValueError(f"{path} holds no Gaussians")
        return batch_of_one(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def check(self, path: Path) -> None:
        with path.open("rb") as file:
            _headers(file.read(1 << 24), path.stat().st_size, path)


def _headers(head: bytes, size: int, path: Path) -> tuple[int, tuple[float, float], list[_Section]]:
    """Compression level, limits of harmonics that are bytes, and sections.

    Raises:
        ValueError: They are not those of this format.
    """
    if len(head) < _HEADER:
        raise ValueError(f"{path} is damaged, or no .ksplat file: it has {size} bytes")
    major, minor, sections = struct.unpack_from("<BB2xI", head)
    (level,) = struct.unpack_from("<H", head, 20)
    limits = struct.unpack_from("<2f", head, 36)
    if (major, minor) != (0, 1) or level > 2:
        raise ValueError(
            f"{path} is damaged, or no .ksplat file: version {major}.{minor} and compression level "
            f"{level} found, expected version 0.1 and level 0, 1 or 2"
        )
    if _HEADER + _SECTION_HEADER * sections > min(len(head), size):
        raise ValueError(f"{path} is damaged: {sections} sections declared in {size} bytes")
    found = []
    for number in range(sections):
        start = _HEADER + _SECTION_HEADER * number
        section = _Section(*struct.unpack_from("<4IfH2xI4xIIH", head, start))
        if section.degree > _HIGHEST_DEGREE:
            raise ValueError(
                f"{path} is damaged: section {number} has harmonics of degree {section.degree}"
            )
        found.append(section)
    if not all(np.isfinite(limits)) or limits[0] >= limits[1]:
        limits = (-1.5, 1.5)  # as older files, which do not say
    return level, limits, found


def _row(level: int, degree: int) -> np.dtype:
    value = "<f4" if level == 0 else "<f2"
    rest = 3 * ((degree + 1) ** 2 - 1)
    fields = [
        ("mean", "<f4" if level == 0 else "<u2", 3),
        ("scale", value, 3),
        ("rotation", value, 4),
        ("color", "u1", 4),
    ]
    if rest:
        fields.append(("rest", "u1" if level == 2 else value, rest))
    return np.dtype(fields)


def _centers(content: np.ndarray, section: _Section, path: Path) -> np.ndarray:
    """The centre of each Gaussian's bucket."""
    sizes = content[: 4 * section.partial].view("<u4").astype(np.int64)
    sizes = np.concatenate([np.full(min(section.full, section.gaussians + 1), 1), sizes])
    sizes[: len(sizes) - section.partial] = section.bucket_room
    ends = sizes.clip(0, section.gaussians).cumsum()
    bucket = np.searchsorted(ends, np.arange(section.gaussians), side="right")
    if section.gaussians and (section.bucket_bytes < 12 or bucket[-1] >= section.buckets):
        raise ValueError(
            f"{path} is damaged: {section.buckets} buckets of {section.bucket_bytes} bytes for "
            f"{section.gaussians} Gaussians"
        )
    buckets = content[4 * section.partial :].reshape(section.buckets, section.bucket_bytes)
    centers = np.ascontiguousarray(buckets[:, :12]).view("<f4")
    return centers[bucket] if section.gaussians else np.zeros((0, 3), np.float32)


def _gaussians(
    rows: np.ndarray,
    centers: np.ndarray | None,
    section: _Section,
    limits: tuple[float, float],
    degree: int,
) -> tuple[Tensor, ...]:
    """Fields of a section, in the order of :class:`Gaussians`, with harmonics of a degree."""
    with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
        means = rows["mean"].astype(np.float32)
        if centers is not None:
            steps = section.steps or _STEPS[1]
            means = (means - steps) * np.float32(section.bucket_side / 2 / steps) + centers
    color = torch.from_numpy(rows["color"] / np.float32(255))
    harmonics = torch.zeros(len(rows), 3, (degree + 1) ** 2)
    harmonics[..., 0] = to_constant(color[:, :3])
    if section.degree:
        rest = rows["rest"].astype(np.float32)
        if rows.dtype["rest"].base == np.uint8:
            rest *= np.float32((limits[1] - limits[0]) / 255)
            rest += np.float32(limits[0])
        for level in range(1, section.degree + 1):
            first, count = level * level, 2 * level + 1
            values = rest[:, 3 * (first - 1) : 3 * (first - 1 + count)].reshape(-1, 3, count)
            harmonics[..., first : first + count] = torch.from_numpy(values)
    return (
        torch.from_numpy(means),
        torch.from_numpy(rows["scale"].astype(np.float32)),
        unit(torch.from_numpy(rows["rotation"].astype(np.float32))),
        harmonics,
        color[:, 3].clone(),
    )
