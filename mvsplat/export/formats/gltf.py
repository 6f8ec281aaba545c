"""glTF files, ``.glb`` and ``.gltf``, with the ratified extension KHR_gaussian_splatting.

Gaussians are points of a mesh: positions, rotations (x, y, z, w), standard deviations, opacities
and harmonics, all as floats, and a colour for programs that know points only. Axes are glTF's
(left, up, forward). Specification: https://github.com/KhronosGroup/glTF, extensions/2.0/Khronos.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.formats.gltf_reading import BYTE, EXTENSION, FLOAT, PREFIX, GltfFile
from mvsplat.export.formats.packing import AT_A_TIME, HalfTurn, to_bytes, to_colors, unit
from mvsplat.export.splat_format import SplatFormat
from mvsplat.geometry.spherical_harmonics import degree_of
from mvsplat.types import Gaussians

_HIGHEST_SIZE = 2**32 - 1
_HIGHEST_DEGREE = 3
_ARRAY_BUFFER = 34962


class _Attribute(NamedTuple):
    name: str
    columns: int
    values: Callable[[slice], Tensor]
    bytes_a_value: int = 4

    @property
    def row(self) -> int:
        return self.columns * self.bytes_a_value


class GltfFormat(SplatFormat):
    """The format ``.gltf``: text, with all values in it, a third larger than ``.glb``."""

    about = "glTF with KHR_gaussian_splatting, as text"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        attributes = _attributes(gaussians)
        count = gaussians.means.shape[1]
        with path.open("wb") as file:
            # The address of the buffer comes last, so that it need not be held as a whole.
            document = json.dumps(_document(gaussians, attributes, uri=""))
            before, _, after = document.rpartition('"uri": ""')
            file.write(f'{before}"uri": "data:application/octet-stream;base64,'.encode())
            held = b""
            for block in _blocks(attributes, count):
                held += block
                whole = len(held) - len(held) % 3
                file.write(base64.b64encode(held[:whole]))
                held = held[whole:]
            file.write(base64.b64encode(held) + f'"{after}'.encode())

    def read(self, path: Path) -> Gaussians:
        return GltfFile(path).gaussians()

    def check(self, path: Path) -> None:
        GltfFile(path).check()


class GlbFormat(GltfFormat):
    """The format ``.glb``: binary."""

    about = "glTF with KHR_gaussian_splatting"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        attributes = _attributes(gaussians)
        count = gaussians.means.shape[1]
        text = json.dumps(_document(gaussians, attributes, uri=None)).encode()
        text += b" " * (-len(text) % 4)
        size = sum(attribute.row for attribute in attributes) * count
        if 28 + len(text) + size > _HIGHEST_SIZE:
            raise ValueError(f"{count} Gaussians need {size} bytes; a .glb file has 4 GiB at most")
        with path.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + size))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", size, b"BIN\0"))
            _write(attributes, count, file)


def _write(attributes: list[_Attribute], count: int, file: IO[bytes]) -> None:
    for block in _blocks(attributes, count):
        file.write(block)


def _blocks(attributes: list[_Attribute], count: int) -> Iterator[bytes]:
    for attribute in attributes:
        for start in range(0, count, AT_A_TIME):
            values = attribute.values(slice(start, start + AT_A_TIME)).cpu()
            kind = "<f4" if attribute.bytes_a_value == 4 else "u1"
            yield np.ascontiguousarray(values.numpy(), kind).tobytes()


def _attributes(gaussians: Gaussians) -> list[_Attribute]:
    """Every row has whole words, so that all attributes are aligned."""
    degree = degree_of(gaussians.harmonics.shape[-1])
    if degree > _HIGHEST_DEGREE:
        raise ValueError(f"harmonics of degree 0 to 3 can be held, found degree {degree}")
    turn, harmonics = HalfTurn(2, degree), gaussians.harmonics[0]

    def coefficient(number: int) -> Callable[[slice], Tensor]:
        return lambda span: harmonics[span, :, number].cpu() * turn.harmonics[number]

    def colors(span: slice) -> Tensor:
        opacity = gaussians.opacities[0, span, None]
        return to_bytes(255 * torch.cat([to_colors(harmonics[span, :, 0]), opacity], -1))

    def rotations(span: slice) -> Tensor:
        return unit(gaussians.rotations[0, span].cpu() * turn.rotations).roll(-1, -1)

    attributes = [
        _Attribute("POSITION", 3, lambda span: gaussians.means[0, span].cpu() * turn.means),
        _Attribute("COLOR_0", 4, colors, bytes_a_value=1),
        _Attribute(f"{PREFIX}ROTATION", 4, rotations),
        _Attribute(f"{PREFIX}SCALE", 3, lambda span: gaussians.scales[0, span]),
        _Attribute(f"{PREFIX}OPACITY", 1, lambda span: gaussians.opacities[0, span]),
    ]
    for level in range(degree + 1):
        for order in range(2 * level + 1):
            name = f"{PREFIX}SH_DEGREE_{level}_COEF_{order}"
            attributes.append(_Attribute(name, 3, coefficient(level * level + order)))
    return attributes


def _document(
    gaussians: Gaussians, attributes: list[_Attribute], uri: str | None
) -> dict[str, Any]:
    count = gaussians.means.shape[1]
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    start = 0
    for number, attribute in enumerate(attributes):
        length = attribute.row * count
        views.append({"buffer": 0, "byteOffset": start, "byteLength": length})
        views[-1]["target"] = _ARRAY_BUFFER
        start += length
        is_float = attribute.bytes_a_value == 4
        accessor = {
            "bufferView": number,
            "componentType": FLOAT if is_float else BYTE,
            "count": count,
            "type": "SCALAR" if attribute.columns == 1 else f"VEC{attribute.columns}",
        }
        accessors.append(accessor if is_float else accessor | {"normalized": True})
    if count:
        means = gaussians.means[0].cpu().float()
        ends = torch.stack([means.amin(0), means.amax(0)]) * HalfTurn(2, 0).means
        accessors[0]["min"], accessors[0]["max"] = ends.amin(0).tolist(), ends.amax(0).tolist()
    names = {attribute.name: number for number, attribute in enumerate(attributes)}
    kind = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "sortingMethod": "cameraDistance",
        "projection": "perspective",
    }
    primitive = {"attributes": names, "mode": 0, "extensions": {EXTENSION: kind}}
    buffer = {"byteLength": start} | ({} if uri is None else {"uri": uri})
    return {
        "asset": {"version": "2.0", "generator": "mvsplat"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [buffer],
    }
