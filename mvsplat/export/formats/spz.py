"""The ``.spz`` format of Niantic: 19 bytes a Gaussian and one for each other harmonic, compressed.

One attribute after the other, of all Gaussians: positions (24-bit fixed point), opacities, colours,
logarithms of scales, rotations, harmonics. Versions 1 to 3 are one gzip stream with a 16-byte
header; in version 4 each attribute is a zstd stream, listed after a 32-byte header. Version 1 has
half-precision positions; versions 1 and 2 have x, y, z of rotations as bytes, later ones the three
smaller components in 10 bits each. Axes are OpenGL's (right, up, back). Written is version 3, which
everything reads. Layout: https://github.com/nianticlabs/spz.
"""

import gzip
import logging
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.formats.packing import (
    AT_A_TIME,
    HalfTurn,
    from_smallest_three,
    smallest_three,
    to_bytes,
    unit,
)
from mvsplat.export.formats.spz_streams import gzip_content, zstd_streams
from mvsplat.export.splat_format import SplatFormat
from mvsplat.geometry.spherical_harmonics import MAX_DEGREE, degree_of
from mvsplat.types import Gaussians

_MAGIC = b"NGSP"
_HEADER = struct.Struct("<4sIIBBBB")
_WRITTEN = 3
_HIGHEST_POSITION = 2**23 - 1
_HIGHEST_COMPONENT = 511
_COLOR = 0.15
"""How much of a byte's range a unit of the constant harmonic is."""
_STEP_1, _STEP_REST = 2, 4
"""Steps, of 256, to which harmonics of degree 1 and higher are rounded, for compression's sake.
Niantic's library rounds to 8 and 16: two thirds of the size, but small view-dependent colours are
lost (32 instead of 47 dB PSNR)."""
_FINEST, _STEPS_A_SCALE = 12, 16
_log = logging.getLogger("mvsplat.export")


class _Header(NamedTuple):
    version: int
    points: int
    degree: int
    fraction_bits: int
    flags: int
    streams: int

    def sizes(self) -> list[int]:
        """Bytes of positions, opacities, colours, scales, rotations and harmonics."""
        position, rotation = (6 if self.version == 1 else 9), (4 if self.version >= 3 else 3)
        rest = 3 * ((self.degree + 1) ** 2 - 1)
        return [self.points * size for size in (position, 1, 3, 3, rotation, rest)]


class SpzFormat(SplatFormat):
    """The format ``.spz``."""

    about = "Niantic's"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        degree = degree_of(gaussians.harmonics.shape[-1])
        bits = _fraction_bits(gaussians)
        turn = HalfTurn(0, degree)
        header = _HEADER.pack(_MAGIC, _WRITTEN, gaussians.means.shape[1], degree, bits, 0, 0)
        # Rounded values repeat less than text does: this is small and fast for them.
        packer = zlib.compressobj(3, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED)
        with path.open("wb") as file:
            file.write(packer.compress(header))
            for attribute in (_positions, _opacities, _colors, _scales, _rotations, _harmonics):
                for start in range(0, gaussians.means.shape[1], AT_A_TIME):
                    part = _part(gaussians, slice(start, start + AT_A_TIME))
                    file.write(packer.compress(attribute(part, turn, bits).tobytes()))
            file.write(packer.flush())

    def read(self, path: Path) -> Gaussians:
        header, parts = _content(path)
        if header.flags & 1:
            _log.warning(
                "%s was trained with anti-aliasing, for which decoders lower the opacity of small "
                "Gaussians: render it with antialiased=True",
                path,
            )
        turn, count = HalfTurn(0, header.degree), header.points
        with np.errstate(over="ignore", invalid="ignore"):
            means = _read_positions(parts[0], header) * turn.means
        opacities = torch.from_numpy(parts[1] / np.float32(255))
        constant = torch.from_numpy((parts[2] / np.float32(255) - np.float32(0.5)) / _COLOR)
        scales = torch.from_numpy(parts[3] / np.float32(16) - 10).exp_()
        harmonics = torch.empty(count, 3, (header.degree + 1) ** 2)
        harmonics[..., 0] = constant.view(count, 3)
        rest = parts[5].reshape(count, harmonics.shape[-1] - 1, 3)
        for start in range(0, count, AT_A_TIME):
            span = slice(start, start + AT_A_TIME)
            values = torch.from_numpy(rest[span].transpose(0, 2, 1) / np.float32(128) - 1)
            harmonics[span, :, 1:] = values * turn.harmonics[1:]
        return Gaussians(
            means=means[None],
            scales=scales.view(1, count, 3),
            rotations=(_read_rotations(parts[4], header) * turn.rotations)[None],
            harmonics=harmonics[None],
            opacities=opacities[None],
        )

    def check(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
        if head[:4] == _MAGIC:
            _header(head, path)
            return
        try:
            with gzip.open(path) as file:
                _header(file.read(_HEADER.size), path)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged, or no .spz file: {error}") from error


def _content(path: Path) -> tuple[_Header, list[np.ndarray]]:
    """Header and attributes of a file, as bytes."""
    data = path.read_bytes()
    if data[:4] == _MAGIC:
        header = _header(data, path)
        parts = zstd_streams(data, header.streams, header.sizes(), path)
    else:
        header = _header(gzip_content(data, _HEADER.size, path), path)
        sizes = header.sizes()
        content = gzip_content(data, _HEADER.size + sum(sizes), path)
        starts = np.cumsum([_HEADER.size, *sizes])
        parts = [content[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return header, [np.frombuffer(part, np.uint8) for part in parts]


def _header(content: bytes, path: Path) -> _Header:
    """The first bytes of a file's content.

    Raises:
        ValueError: They are not those of this format.
    """
    if len(content) < _HEADER.size or content[:4] != _MAGIC:
        raise ValueError(f"{path} is damaged, or no .spz file: its content does not begin as one")
    header = _Header(*_HEADER.unpack_from(content)[1:])
    if not 1 <= header.version <= 4:
        raise ValueError(f"{path} is of version {header.version} of .spz; versions 1 to 4 are read")
    if header.degree > MAX_DEGREE or header.fraction_bits > 24:
        raise ValueError(
            f"{path} is damaged: harmonics of degree {header.degree} and positions with "
            f"{header.fraction_bits} bits after the point found"
        )
    return header


def _part(gaussians: Gaussians, span: slice) -> Gaussians:
    names = ("means", "scales", "rotations", "harmonics", "opacities")
    return Gaussians(*(getattr(gaussians, name)[0, span].cpu().float()[None] for name in names))


def _fraction_bits(gaussians: Gaussians) -> int:
    """Bits after the point: steps small beside the Gaussians, and an extent that still fits.

    Raises:
        ValueError: No number of bits will do.
    """
    if gaussians.means.shape[1] == 0:
        return _FINEST
    reach = float(gaussians.means.abs().max())
    fitting = math.floor(math.log2(_HIGHEST_POSITION / max(reach, 1e-6)))
    if fitting < 0:
        raise ValueError(f"positions up to {reach:.3g} are too far out: .spz reaches to 8e6")
    typical = float(gaussians.scales[0].amax(-1).median())
    wanted = math.ceil(math.log2(_STEPS_A_SCALE / max(typical, 1e-6)))
    return min(fitting, max(wanted, _FINEST), 23)


def _positions(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    steps = (part.means[0] * turn.means).double().mul(2**bits).round()
    words = steps.clamp(-_HIGHEST_POSITION, _HIGHEST_POSITION).int().numpy().astype("<i4")
    return words.view(np.uint8).reshape(-1, 3, 4)[..., :3]


def _opacities(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    return to_bytes(255 * part.opacities[0]).numpy()


def _colors(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    return to_bytes(255 * (_COLOR * part.harmonics[0, ..., 0] + 0.5)).numpy()


def _scales(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    return to_bytes(16 * (part.scales[0].clamp(min=1e-30).log() + 10)).numpy()


def _rotations(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    """In the order x, y, z, w: two bits for the largest, then a sign and nine bits for each."""
    largest, others = smallest_three(unit(part.rotations[0] * turn.rotations).roll(-1, -1))
    sizes = (others.abs() * (_HIGHEST_COMPONENT * 2**0.5)).round().clamp(max=_HIGHEST_COMPONENT)
    fields = sizes.long() | (others < 0).long() << 9
    word = largest << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
    return word.numpy().astype("<u4")


def _harmonics(part: Gaussians, turn: HalfTurn, bits: int) -> np.ndarray:
    values = (part.harmonics[0] * turn.harmonics)[..., 1:].mT  # colours within coefficients
    steps = torch.full((values.shape[1], 1), float(_STEP_REST))
    steps[:3] = _STEP_1
    rounded = (values * (128 / steps)).round() * steps + 128
    return to_bytes(rounded).numpy()


def _read_positions(content: np.ndarray, header: _Header) -> Tensor:
    if header.version == 1:
        return torch.from_numpy(content.view("<f2").astype(np.float32)).view(-1, 3)
    means = np.empty((header.points, 3), np.float32)
    rows = content.reshape(-1, 3, 3)
    for start in range(0, header.points, AT_A_TIME):
        span = slice(start, start + AT_A_TIME)
        words = np.zeros((*rows[span].shape[:2], 4), np.uint8)
        words[..., 1:] = rows[span]  # in the upper bytes, for the sign
        means[span] = (words.view("<i4")[..., 0] >> 8) * np.float32(0.5**header.fraction_bits)
    return torch.from_numpy(means)


def _read_rotations(content: np.ndarray, header: _Header) -> Tensor:
    """As w, x, y, z."""
    rotations = torch.empty(header.points, 4)
    rows = content.view("<u4") if header.version >= 3 else content.reshape(-1, 3)
    for start in range(0, header.points, AT_A_TIME):
        span = slice(start, start + AT_A_TIME)
        if header.version < 3:
            xyz = torch.from_numpy(rows[span] / np.float32(127.5) - 1)
            w = (1 - xyz.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
            rotations[span] = unit(torch.cat([w, xyz], -1))
            continue
        words = rows[span].astype(np.int64)
        fields = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], -1)
        sizes = (fields & 511).astype(np.float32) * np.float32(0.5**0.5 / _HIGHEST_COMPONENT)
        others = torch.from_numpy(np.where(fields >> 9, -sizes, sizes))
        largest = torch.from_numpy(words >> 30)
        rotations[span] = from_smallest_three(largest, others).roll(1, -1)
    return rotations
