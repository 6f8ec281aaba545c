"""Gaussians from PLY files of any program: which properties hold what, and in which form."""

import logging
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.foreign_splats import foreign_ply
from mvsplat.export.formats.packed_ply import check_packed, unpack
from mvsplat.export.formats.packing import to_constant, unit
from mvsplat.export.ply_elements import read_elements
from mvsplat.export.point_splats import point_splats
from mvsplat.export.soundness import activate
from mvsplat.types import Gaussians

_HIGHEST_DEGREE = 3
_AT_A_TIME = 1 << 12
_COLORS = (
    ("red", "green", "blue"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("r", "g", "b"),
)
_PACKED = "packed_position"
_SHAPE = [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)] + ["opacity"]
_log = logging.getLogger("mvsplat.export")


def read_ply(path: Path, activated: bool | None = None) -> Gaussians:
    """What :func:`mvsplat.export.load_ply` reads, values that are not finite among it."""
    elements = read_elements(path)
    names = elements["vertex"].data.dtype.names or ()
    if _PACKED in names:
        if activated is not None:
            raise ValueError(
                f"{path}: activated={activated} is for plain PLY files; what compressed ones store "
                "is fixed by their format"
            )
        return unpack(elements, path)
    table, columns = _table(elements, path)
    if "filter_3D" in names:
        _log.warning(
            "%s is Mip-Splatting's, whose 3-D filter (filter_3D) is not applied here: Gaussians "
            "come out too small and too opaque; its create_fused_ply.py writes a file with it",
            path,
        )
    fields = _fields(table, columns)
    harmonics = _harmonics(fields, table, columns)
    if "scales" not in fields:
        return point_splats(fields["means"], harmonics, path)
    opacities = fields["opacities"].view(-1)
    activate(fields["scales"], opacities, activated, path)
    return Gaussians(
        means=fields["means"][None],
        scales=fields["scales"][None],
        rotations=unit(fields["rotations"])[None],
        harmonics=harmonics[None],
        opacities=opacities[None],
    )


def check_ply(path: Path) -> None:
    """Look whether a file can be read, without reading all of it.

    Raises:
        OSError, ValueError: It cannot.
    """
    elements = read_elements(path)
    if _PACKED in (elements["vertex"].data.dtype.names or ()):
        check_packed(elements, path)
    else:
        _table(elements, path)


def degree_held(coefficients: int) -> int:
    """The degree of harmonics with so many coefficients.

    Raises:
        ValueError: PLY files hold no such harmonics.
    """
    for degree in range(_HIGHEST_DEGREE + 1):
        if coefficients == (degree + 1) ** 2:
            return degree
    raise ValueError(
        f"PLY files hold harmonics of degree 0 to {_HIGHEST_DEGREE}, which have 1, 4, 9 "
        f"or 16 coefficients a colour; found {coefficients}"
    )


def _table(elements: Any, path: Path) -> tuple[np.ndarray, dict[str, list[str]]]:
    """The points of a file, and which of their properties hold each field."""
    table = elements["vertex"].data
    names: tuple[str, ...] = table.dtype.names or ()
    counts = {element.name: element.count for element in elements}
    foreign = foreign_ply(path, counts, names)
    points = foreign is None and not {"opacity", "scale_0", "rot_0", "f_dc_0"} & set(names)
    columns = {"means": ["x", "y", "z"]} | _color_columns(path, names)
    if not points:
        columns |= {"scales": _SHAPE[:3], "rotations": _SHAPE[3:7], "opacities": _SHAPE[7:]}
    wanted = [name for field in columns.values() for name in field]
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(
            f"{path} is not a file of 3-D Gaussians: its points have no {', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}; they have {', '.join(names[:8])}"
            f"{f'. It is {foreign}' if foreign else ''}"
        )
    if foreign:
        raise ValueError(f"{path} is {foreign}")
    if lists := [name for name in wanted if table.dtype[name].kind not in "fiu"]:
        raise ValueError(f"{path}: {lists[0]} is a list for every point, expected one number")
    return table, columns


def _color_columns(path: Path, names: Collection[str]) -> dict[str, list[str]]:
    """Properties of the field harmonics or colors; of none where points have no colour."""
    colors = next((list(three) for three in _COLORS if set(three) <= set(names)), None)
    if "f_dc_0" not in names and (colors or not {"opacity", "scale_0", "rot_0"} & set(names)):
        return {"colors": colors} if colors else {}
    found = sum(name.startswith("f_rest_") for name in names)
    try:
        degree = degree_held(1 + math.ceil(found / 3))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    rest = (degree + 1) ** 2 - 1
    columns = []
    for color in range(3):
        columns.append(f"f_dc_{color}")
        columns.extend(f"f_rest_{i}" for i in range(color * rest, (color + 1) * rest))
    return {"harmonics": columns}


def _fields(table: np.ndarray, columns: dict[str, list[str]]) -> dict[str, Tensor]:
    """The table's columns as fields, made a few thousand rows at a time."""
    fields = {name: torch.empty(len(table), len(columns[name])) for name in columns}
    for start in range(0, len(table), _AT_A_TIME):
        span = slice(start, start + _AT_A_TIME)
        # What float32 cannot hold becomes infinite, and is left out.
        with np.errstate(over="ignore"):
            for name, values in fields.items():
                for column, property_name in enumerate(columns[name]):
                    values[span].numpy()[:, column] = table[property_name][span]
    return fields


def _harmonics(
    fields: dict[str, Tensor], table: np.ndarray, columns: dict[str, list[str]]
) -> Tensor:
    """Harmonics [n, 3, k]; points without a colour are grey."""
    if "harmonics" in fields:
        return fields["harmonics"].unflatten(1, (3, len(columns["harmonics"]) // 3))
    if "colors" not in fields:
        return torch.zeros(len(table), 3, 1)
    kind, colors = table.dtype[columns["colors"][0]], fields["colors"]
    if kind.kind in "iu":
        highest = np.iinfo(kind).max
    else:
        highest = 1 if len(colors) == 0 or float(colors.max()) <= 1 else 255
    return to_constant(colors / highest)[..., None]
