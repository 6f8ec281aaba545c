"""PlayCanvas' compressed PLY: 16 bytes a Gaussian, positions and sizes relative to 256 neighbours.

Gaussians lie along a space-filling curve. For each 256 of them the element ``chunk`` has the lowest
and highest positions, logarithms of scales and colours; the element ``vertex`` has four 32-bit
numbers: position and scale as 11, 10 and 11 bits between these, rotation as its three smaller
components in 10 bits each after 2 bits that say which (of w, x, y, z) is missing, colour and
opacity as bytes. The element ``sh`` has the other harmonics as bytes for -4 to 4, first all of
red. Layout: https://developer.playcanvas.com, "The Compressed PLY Format".
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.formats.packing import (
    from_smallest_three,
    morton_order,
    smallest_three,
    to_bytes,
    to_colors,
    to_constant,
    unit,
)
from mvsplat.types import Gaussians

_CHUNK = 256
_CHUNKS_AT_A_TIME = 512
_ROWS_AT_A_TIME = 1 << 12
_AXES, _COLORS = ("x", "y", "z"), ("r", "g", "b")
_BOUNDS = tuple(
    f"{end}_{what}{axis}"
    for what, axes in (("", _AXES), ("scale_", _AXES), ("", _COLORS))
    for end in ("min", "max")
    for axis in axes
)
_WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_BITS = (11, 10, 11)
_HIGHEST_LOG_SCALE = 20.0


def write_packed(gaussians: Gaussians, path: Path) -> None:
    """Write a batch of one scene; harmonics of degree 0 to 3."""
    harmonics = gaussians.harmonics[0]
    count, rest = len(harmonics), 3 * (harmonics.shape[-1] - 1)
    if rest not in (0, 9, 24, 45):
        raise ValueError(
            f"harmonics of degree 0 to 3 can be held, found {rest // 3 + 1} coefficients a colour"
        )
    order = morton_order(gaussians.means[0].cpu()) if count else torch.zeros(0, dtype=torch.long)
    bounds, words = np.empty((-(-count // _CHUNK), 18), "<f4"), np.empty((count, 4), "<u4")
    for start in range(0, count, _CHUNK * _CHUNKS_AT_A_TIME):
        part = order[start : start + _CHUNK * _CHUNKS_AT_A_TIME]
        first = start // _CHUNK
        some_bounds, some_words = _pack(gaussians, part)
        bounds[first : first + len(some_bounds)] = some_bounds
        words[start : start + len(part)] = some_words
    with path.open("wb") as file:
        file.write(_header(count, rest))
        bounds.tofile(file)
        words.tofile(file)
        for part in order.split(_CHUNK * _CHUNKS_AT_A_TIME) if rest else ():
            values = harmonics[part, :, 1:].flatten(1).cpu()
            to_bytes((values / 8 + 0.5).mul(256).floor()).numpy().tofile(file)


def unpack(elements: Any, path: Path) -> Gaussians:
    """The Gaussians of a file's elements.

    Raises:
        ValueError: They are not as the format has them.
    """
    check_packed(elements, path)
    table, bounds = elements["vertex"].data, elements["chunk"].data
    words = {name: np.asarray(table[name]).astype(np.int64) for name in _WORDS}
    limits = {name: np.asarray(bounds[name], np.float32) for name in bounds.dtype.names}
    for color in _COLORS:  # files of older programs have none
        limits.setdefault(f"min_{color}", np.zeros(len(bounds), np.float32))
        limits.setdefault(f"max_{color}", np.ones(len(bounds), np.float32))
    means = _between(_three(words["packed_position"]), limits, "", _AXES)
    scales = _between(_three(words["packed_scale"]), limits, "scale_", _AXES)
    parts = np.stack([words["packed_color"] >> shift & 255 for shift in (24, 16, 8, 0)], -1)
    shares = (parts / 255).astype(np.float32)
    harmonics = _harmonics(elements, len(table))
    harmonics[..., 0] = to_constant(_between(shares[:, :3], limits, "", _COLORS))
    return Gaussians(
        means=means[None],
        scales=scales.exp_()[None],
        rotations=_rotations(words["packed_rotation"])[None],
        harmonics=harmonics[None],
        opacities=torch.from_numpy(shares[:, 3].copy())[None],
    )


def check_packed(elements: Any, path: Path) -> None:
    """Look whether a file's elements are as the format has them.

    Raises:
        ValueError: They are not.
    """
    problem = f"{path} is a damaged compressed PLY file: "
    if "chunk" not in elements:
        raise ValueError(f"{problem}it has no element named chunk")
    table, bounds = elements["vertex"].data, elements["chunk"].data
    needed = [*((table, name) for name in _WORDS), *((bounds, name) for name in _BOUNDS[:12])]
    for rows, name in needed:
        if name not in rows.dtype.names or rows.dtype[name].kind not in "fiu":
            raise ValueError(f"{problem}it has no numbers named {name}")
    if len(bounds) < -(-len(table) // _CHUNK):
        raise ValueError(
            f"{problem}it has {len(bounds)} chunks of {_CHUNK} for {len(table)} Gaussians"
        )
    if "sh" in elements:
        rows = elements["sh"].data
        names = [f"f_rest_{i}" for i in range(len(rows.dtype.names or ()))]
        if len(names) not in (9, 24, 45) or set(names) != set(rows.dtype.names):
            raise ValueError(f"{problem}{len(names)} harmonics found, expected 9, 24 or 45")
        if len(rows) != len(table) or any(rows.dtype[name] != np.uint8 for name in names):
            raise ValueError(f"{problem}expected a byte for each harmonic of each Gaussian")


def _pack(gaussians: Gaussians, part: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Bounds and words of some Gaussians; what fills the last chunk is not returned."""
    filled = torch.cat([part, part[-1:].expand(-len(part) % _CHUNK)])
    log_scales = gaussians.scales[0, filled].float().clamp(min=1e-30).log()
    log_scales = log_scales.clamp(-_HIGHEST_LOG_SCALE, _HIGHEST_LOG_SCALE)
    fields = (
        gaussians.means[0, filled].float(),
        log_scales,
        to_colors(gaussians.harmonics[0, filled, :, 0].float()),
    )
    bounds, shares = [], []
    for field in fields:
        chunks = field.cpu().view(-1, _CHUNK, 3)
        low, high = chunks.amin(1), chunks.amax(1)
        bounds += [low, high]
        share = (chunks - low[:, None]) / (high - low).clamp(min=1e-30)[:, None]
        shares.append(share.view(-1, 3)[: len(part)])
    rotations = unit(gaussians.rotations[0, part].cpu().float())
    largest, others = smallest_three(rotations)
    rotation = _joined(others * 0.5**0.5 + 0.5, (10, 10, 10)) | largest << 30
    opacity = gaussians.opacities[0, part, None].cpu().float()
    color = _joined(torch.cat([shares[2], opacity], -1), (8, 8, 8, 8))
    words = [_joined(shares[0], _BITS), rotation, _joined(shares[1], _BITS), color]
    return torch.cat(bounds, -1).numpy(), torch.stack(words, -1).numpy().astype("<u4")


def _joined(shares: Tensor, bits: tuple[int, ...]) -> Tensor:
    """Numbers in [0, 1] as whole numbers of so many bits, the first one highest."""
    word = torch.zeros(len(shares), dtype=torch.long)
    for column, width in enumerate(bits):
        highest = 2**width - 1
        value = (shares[:, column] * highest).round().clamp(0, highest).long()
        word = word << width | value
    return word


def _three(words: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] of 11, 10 and 11 bits."""
    parts = (words >> 21 & 2047, words >> 11 & 1023, words & 2047)
    return np.stack(
        [part / np.float32(2**width - 1) for part, width in zip(parts, _BITS, strict=True)], -1
    )


def _between(
    shares: np.ndarray, limits: dict[str, np.ndarray], what: str, axes: tuple[str, ...]
) -> Tensor:
    """Values between the limits of each one's chunk."""
    values = np.empty(shares.shape, np.float32)
    chunk = np.arange(len(shares)) // _CHUNK
    for column, axis in enumerate(axes):
        low, high = limits[f"min_{what}{axis}"], limits[f"max_{what}{axis}"]
        with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
            values[:, column] = low[chunk] + shares[:, column] * (high - low)[chunk]
    return torch.from_numpy(values)


def _rotations(words: np.ndarray) -> Tensor:
    parts = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], -1)
    others = (parts / np.float32(1023) - 0.5) * np.float32(2**0.5)
    largest = torch.from_numpy(words >> 30 & 3)
    return from_smallest_three(largest, torch.from_numpy(others.astype(np.float32)))


def _harmonics(elements: Any, count: int) -> Tensor:
    """Harmonics [n, 3, k], all but the constant ones filled in."""
    if "sh" not in elements:
        return torch.empty(count, 3, 1)
    table = elements["sh"].data
    names = [f"f_rest_{number}" for number in range(len(table.dtype.names))]
    harmonics = torch.empty(count, 3, len(names) // 3 + 1)
    # The middle of what a byte stands for; the lowest and highest are taken at their word.
    values = (np.arange(256, dtype=np.float32) + 0.5) / 256
    values[0], values[255] = 0, 1
    values = (values - 0.5) * 8
    for start in range(0, count, _ROWS_AT_A_TIME):
        span = slice(start, start + _ROWS_AT_A_TIME)
        rows = np.stack([table[name][span] for name in names], -1)
        harmonics[span, :, 1:] = torch.from_numpy(values[rows]).unflatten(1, (3, -1))
    return harmonics


def _header(count: int, rest: int) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {-(-count // _CHUNK)}"]
    lines += [f"property float {name}" for name in _BOUNDS]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in _WORDS)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")
