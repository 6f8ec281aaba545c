"""Gaussians of glTF files: buffers, accessors and nodes, as far as the extension uses them."""

import base64
import binascii
import json
import logging
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.formats.packing import HalfTurn, batch_of_one, unit
from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.rotations import (
    matrix_to_quaternion,
    quaternion_product,
    quaternion_to_matrix,
)
from mvsplat.types import Gaussians

EXTENSION = "KHR_gaussian_splatting"
PREFIX = f"{EXTENSION}:"
BYTE, FLOAT = 5121, 5126
_KINDS = {5120: "<i1", BYTE: "<u1", 5122: "<i2", 5123: "<u2", FLOAT: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_HIGHEST_DEGREE, _DEEPEST = 3, 64
_log = logging.getLogger("mvsplat.export")


class GltfFile:
    """A glTF file, of which the JSON is read at once.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged, or no glTF file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._binary: np.ndarray = np.zeros(0, np.uint8)
        with path.open("rb") as file:
            head = file.read(20)
            if head[:4] == b"glTF":
                text = self._chunks(head, file)
            else:
                text = head + file.read()
        try:
            self._document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged, or no glTF file: {error}") from error
        if not isinstance(self._document, dict):
            raise ValueError(f"{path} is damaged, or no glTF file: its JSON is no object")

    def gaussians(self) -> Gaussians:
        """All Gaussians in the file's scene, in the frame and axes of this package."""
        parts = [self._placed(primitive, matrix) for primitive, matrix in self._primitives()]
        coefficients = max(part[3].shape[-1] for part in parts)
        means, scales, rotations, harmonics, opacities = zip(*parts, strict=True)
        padded = [
            torch.nn.functional.pad(values, (0, coefficients - values.shape[-1]))
            for values in harmonics
        ]
        fields = (means, scales, rotations, padded, opacities)
        joined = [values[0] if len(values) == 1 else torch.cat(values) for values in fields]
        return batch_of_one(*joined)

    def check(self) -> None:
        """Look whether there are Gaussians whose attributes are there.

        Raises:
            ValueError: There are none.
        """
        for primitive, _ in self._primitives():
            self._attribute(primitive, "POSITION", 3)

    def _chunks(self, head: bytes, file: Any) -> bytes:
        """The JSON of a binary file; its other chunk stays on disk."""
        size = self._path.stat().st_size
        if len(head) < 20 or head[16:20] != b"JSON":
            raise self._damaged("its first part is not JSON")
        version, _, length = struct.unpack_from("<3I", head, 4)
        if version != 2 or 20 + length > size:
            raise self._damaged(f"version {version} and {length} bytes of JSON found")
        text = file.read(length)
        next_head = file.read(8)
        if len(next_head) == 8 and next_head[4:] == b"BIN\0":
            (length,) = struct.unpack_from("<I", next_head)
            if file.tell() + length > size:
                raise self._damaged(f"{length} bytes declared, {size - file.tell()} are there")
            if length:
                self._binary = np.memmap(self._path, np.uint8, "r", file.tell(), (length,))
        return text

    def _primitives(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Primitives that are Gaussians, each with its matrix to the scene."""
        found = False
        for mesh, matrix in self._meshes():
            for primitive in _list(mesh.get("primitives")):
                kind = _dict(_dict(_dict(primitive).get("extensions")).get(EXTENSION))
                if not kind:
                    continue
                if others := _dict(kind.get("extensions")):
                    raise ValueError(
                        f"{self._path} holds Gaussians in the form of {next(iter(others))}, which "
                        "is not read: export them without compression"
                    )
                if kind.get("colorSpace") == "lin_rec709_display":
                    _log.warning("%s has linear colours, which are shown as sRGB", self._path)
                found = True
                yield primitive, matrix
        if not found:
            raise ValueError(
                f"{self._path} is a glTF file without Gaussians ({EXTENSION}): not Gaussians; a "
                "splat is made from photographs (mvsplat reconstruct)"
            )

    def _meshes(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Meshes of the scene's nodes; all meshes, unmoved, in a file without nodes."""
        meshes, nodes = (_list(self._document.get(name)) for name in ("meshes", "nodes"))
        if not nodes:
            yield from ((_dict(mesh), torch.eye(4).double()) for mesh in meshes)
            return
        scenes = _list(self._document.get("scenes"))
        children = {c for node in nodes for c in _list(_dict(node).get("children")) if _number(c)}
        roots: list[Any] = [number for number in range(len(nodes)) if number not in children]
        if scenes:
            roots = _list(_dict(self._at(scenes, self._document.get("scene", 0))).get("nodes"))
        seen: set[int] = set()
        waiting = [(number, torch.eye(4).double(), 0) for number in reversed(roots)]
        while waiting:
            number, parent, depth = waiting.pop()
            node = _dict(self._at(nodes, number))
            if number in seen or depth > _DEEPEST:
                raise self._damaged(f"node {number} is its own parent, or that of a deep tree")
            seen.add(number)
            matrix = parent @ self._matrix(node, number)
            if "mesh" in node:
                yield _dict(self._at(meshes, node["mesh"])), matrix
            below = reversed(_list(node.get("children")))
            waiting.extend((child, matrix, depth + 1) for child in below)

    def _matrix(self, node: dict[str, Any], number: int) -> Tensor:
        """A node's matrix to its parent."""
        parts = {"matrix": 16, "translation": 3, "rotation": 4, "scale": 3}
        given = {
            name: self._numbers(node[name], n, number) for name, n in parts.items() if name in node
        }
        if "matrix" in given:
            return given["matrix"].view(4, 4).T
        matrix = torch.eye(4).double()
        if "rotation" in given:
            matrix[:3, :3] = quaternion_to_matrix(unit(given["rotation"].roll(1)[None])[0])
        if "scale" in given:
            matrix[:3, :3] *= given["scale"]
        if "translation" in given:
            matrix[:3, 3] = given["translation"]
        return matrix

    def _numbers(self, values: Any, count: int, node: int) -> Tensor:
        try:
            numbers = torch.tensor(values, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            numbers = torch.zeros(0)
        if numbers.shape != (count,) or not numbers.isfinite().all():
            raise self._damaged(f"node {node} has something else than {count} numbers")
        return numbers

    def _placed(self, primitive: dict[str, Any], matrix: Tensor) -> tuple[Tensor, ...]:
        """Fields of a primitive, in the order of :class:`Gaussians`, moved by a node."""
        means, scales, rotations, harmonics, opacities = self._fields(primitive)
        linear = matrix[:3, :3]
        factor = float(linear.det())
        factor = factor ** (1 / 3) if factor > 0 else 0.0
        if factor == 0 or not torch.allclose(
            linear @ linear.T / factor**2, torch.eye(3).double(), atol=1e-3
        ):
            raise ValueError(
                f"{self._path}: a node mirrors its Gaussians or stretches them unevenly; expected "
                "a rotation, a scale and a translation"
            )
        degree = round(harmonics.shape[-1] ** 0.5) - 1
        turn = HalfTurn(2, degree)
        rotation = linear / factor
        if not torch.equal(matrix, torch.eye(4).double()):
            means = (means.double() @ linear.T + matrix[:3, 3]).float()
            quaternion = matrix_to_quaternion(rotation).float()
            rotations = quaternion_product(quaternion, rotations)
            harmonics = harmonics @ harmonics_rotation(rotation, degree).T.float()
            scales = scales * factor
        means *= turn.means  # in place: the scene is large
        rotations *= turn.rotations
        harmonics *= turn.harmonics
        return means, scales, rotations, harmonics, opacities

    def _fields(self, primitive: dict[str, Any]) -> tuple[Tensor, ...]:
        names = _dict(primitive.get("attributes"))
        degree = 0
        while degree < _HIGHEST_DEGREE and f"{PREFIX}SH_DEGREE_{degree + 1}_COEF_0" in names:
            degree += 1
        means = self._attribute(primitive, "POSITION", 3)
        harmonics = torch.empty(len(means), 3, (degree + 1) ** 2)
        for level in range(degree + 1):
            for order in range(2 * level + 1):
                name = f"{PREFIX}SH_DEGREE_{level}_COEF_{order}"
                values = self._attribute(primitive, name, 3, len(means))
                harmonics[..., level * level + order] = values
        scales = self._attribute(primitive, f"{PREFIX}SCALE", 3, len(means))
        if (scales < 0).any():  # the extension's drafts stored logarithms
            scales = scales.exp()
        rotations = self._attribute(primitive, f"{PREFIX}ROTATION", 4, len(means)).roll(1, -1)
        opacities = self._attribute(primitive, f"{PREFIX}OPACITY", 1, len(means))[:, 0]
        return means, scales, unit(rotations), harmonics, opacities.clamp(0, 1)

    def _attribute(
        self, primitive: dict[str, Any], name: str, columns: int, count: int | None = None
    ) -> Tensor:
        """An attribute's values [n, columns].

        Raises:
            ValueError: It is missing, or is not what it should be.
        """
        number = _dict(primitive.get("attributes")).get(name)
        if number is None:
            raise ValueError(f"{self._path} is damaged: its Gaussians have no {name}")
        accessor = _dict(self._at(_list(self._document.get("accessors")), number))
        kind, length = _KINDS.get(accessor.get("componentType")), accessor.get("count")  # type: ignore[arg-type]
        if (
            kind is None
            or _COLUMNS.get(str(accessor.get("type"))) != columns
            or not _number(length)
            or (count is not None and length != count)
            or "sparse" in accessor
        ):
            raise self._damaged(
                f"{name} is {length} of {accessor.get('type')} of type "
                f"{accessor.get('componentType')}; expected {columns} numbers for each Gaussian"
            )
        values = self._rows(accessor, np.dtype((kind, columns)), name)
        floats = torch.from_numpy(np.array(values, np.float32))
        if accessor.get("normalized") and values.dtype.kind in "iu":
            floats = (floats / np.iinfo(values.dtype).max).clamp(min=-1)
        return floats

    def _rows(self, accessor: dict[str, Any], row: np.dtype, name: str) -> np.ndarray:
        view = _dict(self._at(_list(self._document.get("bufferViews")), accessor.get("bufferView")))
        buffer = self._buffer(view.get("buffer"))
        count, stride = accessor["count"], view.get("byteStride", row.itemsize)
        offsets = [accessor.get("byteOffset", 0), view.get("byteOffset", 0)]
        if not all(_number(value) for value in (*offsets, stride)) or stride < row.itemsize:
            raise self._damaged(f"{name} has no place in its buffer")
        start = sum(offsets)
        end = start + stride * (count - 1) + row.itemsize if count else start
        if end > len(buffer):
            raise self._damaged(f"{name} ends at byte {end} of a buffer of {len(buffer)}")
        strides = (stride, row.base.itemsize)
        return np.ndarray((count, row.shape[0]), row.base, buffer, start, strides)

    def _buffer(self, number: Any) -> np.ndarray:
        buffer = _dict(self._at(_list(self._document.get("buffers")), number))
        uri = buffer.get("uri")
        if uri is None:
            return self._binary
        if match := re.match(r"data:[\w/+.-]*;base64,", str(uri)):
            try:
                content = base64.b64decode(uri[match.end() :], validate=True)
            except (binascii.Error, ValueError) as error:
                raise self._damaged(f"buffer {number}: {error}") from error
            buffer["uri"], self._binary = None, np.frombuffer(content, np.uint8)
            return self._binary
        beside = self._path.with_name(str(uri)) if re.fullmatch(r"[\w.() -]+", str(uri)) else None
        if beside is None or beside.name in (".", "..") or not beside.is_file():
            raise ValueError(
                f"{self._path}: its buffer {number} is to be in {str(uri)[:80]!r}; expected the "
                "name of a file beside it"
            )
        return np.memmap(beside, np.uint8, "r") if beside.stat().st_size else np.zeros(0, np.uint8)

    def _at(self, entries: list[Any], number: Any) -> Any:
        if not _number(number) or number >= len(entries):
            raise self._damaged(f"there is no entry {number!r} among {len(entries)}")
        return entries[number]

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"{self._path} is damaged: {what}")


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
