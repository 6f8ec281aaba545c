"""Gaussians as PLY files that every 3DGS viewer opens, and back.

The layout is that of Kerbl et al. (2023): for each Gaussian little-endian floats x y z, nx ny nz
(unused), f_dc_* (the constant harmonics of red, green, blue), f_rest_* (the others, all of red
first, then green, then blue), opacity (its logit), scale_* (natural logarithms), rot_*
(w, x, y, z).
World frame and harmonics basis are those of :class:`mvsplat.types.Gaussians`.
"""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mvsplat.export.foreign_splats import foreign_format, foreign_ply
from mvsplat.export.placement import Axis, Placement
from mvsplat.export.soundness import one_scene, warn_if_activated_twice, without_broken
from mvsplat.export.splat_format import SplatFormat
from mvsplat.files import replacing
from mvsplat.types import Gaussians

_HIGHEST_DEGREE = 3
_log = logging.getLogger("mvsplat.export")
_WRITTEN_AT_A_TIME, _READ_AT_A_TIME = 1 << 15, 1 << 12


def save_ply(
    gaussians: Gaussians,
    path: str | Path,
    scene: int | None = None,
    min_opacity: float = 0.0,
    max_scale: float = math.inf,
    recenter: bool = False,
    up_axis: Axis | None = None,
    up: tuple[float, float, float] = (0.0, -1.0, 0.0),
) -> None:
    """Write one scene's Gaussians; an existing file is replaced once all is written.

    A few thousand rows are made at a time, so that no second copy of a large scene is needed.

    Args:
        gaussians: A batch of scenes.
        path: The file to write; folders are created.
        scene: Which scene of the batch; may be left out if there is only one.
        min_opacity: Leave out Gaussians that are less opaque.
        max_scale: Leave out Gaussians whose largest standard deviation is larger, in the scene's
            unit.
        recenter: Move the scene so that the median of the Gaussians written is at the origin. The
            file's header says by how much. Cameras are not moved along.
        up_axis: Turn the scene so that ``up`` points along this axis of the file, for programs
            that expect one; view-dependent colours are turned, too. The header gives the rotation.
        up: What is up in the scene: by default -y, as for a first camera held level.

    Raises:
        ValueError: The scene is not in the batch, a value is not finite, an option is not valid,
            or the harmonics are of no degree that PLY files have (0 to 3).
    """
    chosen = _fields(one_scene(gaussians, scene))
    kept = _kept(chosen, min_opacity, max_scale)
    count = len(chosen["mean"]) if kept is None else int(kept.sum())
    degree = _degree(chosen["harmonics"].shape[-1])
    placement = Placement(_median(chosen["mean"], kept) if recenter else None, up_axis, up)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(_properties(degree), count, placement.comments()))
        for start in range(0, len(chosen["mean"]), _WRITTEN_AT_A_TIME):
            span = slice(start, start + _WRITTEN_AT_A_TIME)
            part = {name: value[span] for name, value in chosen.items()}
            if kept is not None:
                part = {name: value[kept[span]] for name, value in part.items()}
            rows = _rows(placement(part))
            if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=-1))):
                numbers = range(count) if kept is None else kept[span].nonzero()[:, 0]
                raise ValueError(
                    f"Gaussian {start + int(numbers[bad[0]])} has values that are not finite; "
                    "nothing was written"
                )
            rows.tofile(file)


def load_ply(path: str | Path) -> Gaussians:
    """Read a 3DGS PLY file, of this package or any other program, as a batch of one scene.

    Gaussians with values that are not finite are left out and counted in a warning; values that
    look as if they were not stored as logits and logarithms are named in one.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        ValueError: The file is damaged, or is a file of something else, which is named.
    """
    table, degree = _table(Path(path))
    if "filter_3D" in (table.dtype.names or ()):
        _log.warning(
            "%s is Mip-Splatting's, whose 3-D filter (filter_3D) is not applied here: Gaussians "
            "come out too small and too opaque; its create_fused_ply.py writes a file with it",
            path,
        )
    gaussians = without_broken(_gaussians(table, degree), path)
    warn_if_activated_twice(gaussians, path)
    return gaussians


class PlyFormat(SplatFormat):
    """The format ``.ply``."""

    about = "3DGS PLY"

    def write(
        self,
        gaussians: Gaussians,
        path: Path,
        recenter: bool = False,
        up_axis: Axis | None = None,
        up: tuple[float, float, float] = (0.0, -1.0, 0.0),
    ) -> None:
        save_ply(gaussians, path, recenter=recenter, up_axis=up_axis, up=up)

    def read(self, path: Path) -> Gaussians:
        return load_ply(path)

    def check(self, path: Path) -> None:
        _table(path)


def _table(path: Path) -> tuple[np.ndarray, int]:
    """The Gaussians of a PLY file, which stay on disk until they are used, and their degree."""
    elements = _elements(path)
    table = elements["vertex"].data
    names: tuple[str, ...] = table.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in names)
    foreign = foreign_ply(path, [element.name for element in elements], names)
    problem = f"{path} is not a file of 3-D Gaussians: "
    if missing := [name for name in _read_properties(0) if name not in names]:
        raise ValueError(
            f"{problem}its points have no {', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}; they have {', '.join(names[:8])}"
            f"{f'. It is {foreign}' if foreign else ''}"
        )
    try:
        degree = _degree(1 + math.ceil(rest / 3))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    properties = _read_properties(degree)
    if missing := [name for name in properties if name not in names]:
        raise ValueError(f"{problem}its points have {rest} f_rest_*, but no {missing[0]}")
    if lists := [name for name in properties if table.dtype[name].kind not in "fiu"]:
        raise ValueError(f"{path}: {lists[0]} is a list for every point, expected one number")
    return table, degree


def _elements(path: Path) -> Any:
    from plyfile import PlyData, PlyParseError

    if not path.is_file():
        raise FileNotFoundError(f"no PLY file at {path}")
    try:
        elements = PlyData.read(str(path))
    except (PlyParseError, ValueError, MemoryError, OverflowError) as error:
        if foreign := foreign_format(path):
            raise ValueError(f"{path} is {foreign}") from error
        raise ValueError(f"{path} is damaged, or no PLY file: {error}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from error
    if "vertex" not in elements:
        raise ValueError(f"{path} holds no Gaussians: it has no element named vertex")
    return elements


def _read_properties(degree: int) -> list[str]:
    return [name for name in _properties(degree) if name[0] != "n"]


def _fields(gaussians: Gaussians) -> dict[str, Tensor]:
    return {
        "mean": gaussians.means[0],
        "harmonics": gaussians.harmonics[0],
        "opacity": gaussians.opacities[0],
        "scale": gaussians.scales[0],
        "rotation": gaussians.rotations[0],
    }


def _degree(coefficients: int) -> int:
    """The degree of harmonics with so many coefficients."""
    for degree in range(_HIGHEST_DEGREE + 1):
        if coefficients == (degree + 1) ** 2:
            return degree
    raise ValueError(
        f"PLY files hold harmonics of degree 0 to {_HIGHEST_DEGREE}, which have 1, 4, 9 "
        f"or 16 coefficients a colour; found {coefficients}"
    )


def _properties(degree: int) -> list[str]:
    rest = 3 * ((degree + 1) ** 2 - 1)
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def _header(properties: list[str], count: int, comments: list[str]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {count}"]
    lines += [f"property float {name}" for name in properties]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _kept(
    chosen: dict[str, Tensor], min_opacity: float, max_scale: float
) -> Bool[Tensor, " g"] | None:
    """Which Gaussians pass the thresholds; None if all do."""
    if min_opacity <= 0 and max_scale == math.inf:
        return None
    return (chosen["opacity"] >= min_opacity) & (chosen["scale"].amax(-1) <= max_scale)


def _median(means: Tensor, kept: Tensor | None) -> Tensor | None:
    means = means if kept is None else means[kept]
    return means.median(dim=0).values if len(means) else None


def _rows(part: dict[str, Tensor]) -> np.ndarray:
    """What the file holds of some Gaussians, a row each."""
    opacity = part["opacity"].double().clamp(1e-12, 1 - 2**-24)  # a logit is finite
    scale = part["scale"].double().clamp(min=1e-30)
    columns = [
        part["mean"],
        torch.zeros_like(part["mean"]),
        part["harmonics"][..., 0],
        part["harmonics"][..., 1:].flatten(1),
        opacity.logit().unsqueeze(-1),
        scale.log(),
        torch.nn.functional.normalize(part["rotation"].double(), dim=-1),
    ]
    rows = torch.cat([column.float() for column in columns], dim=-1)
    return rows.cpu().numpy().astype("<f4", copy=False)


def _gaussians(table: np.ndarray, degree: int) -> Gaussians:
    """The table's columns as fields, made a few thousand rows at a time."""
    columns = _columns(degree)
    fields = {name: torch.empty(len(table), len(columns[name])) for name in columns}
    for start in range(0, len(table), _READ_AT_A_TIME):
        span = slice(start, start + _READ_AT_A_TIME)
        with np.errstate(
            over="ignore"
        ):  # what float32 cannot hold becomes infinite, and is left out
            for name, values in fields.items():
                for column, property_name in enumerate(columns[name]):
                    values[span].numpy()[:, column] = table[property_name][span]
        fields["scales"][span].exp_()
        fields["opacities"][span].sigmoid_()
        fields["rotations"][span] = _unit(fields["rotations"][span])
    return Gaussians(
        means=fields["means"][None],
        scales=fields["scales"][None],
        rotations=fields["rotations"][None],
        harmonics=fields["harmonics"].view(1, len(table), 3, (degree + 1) ** 2),
        opacities=fields["opacities"].view(1, len(table)),
    )


def _columns(degree: int) -> dict[str, list[str]]:
    """The properties that hold a field: its values, or their logarithms or logits."""
    rest = (degree + 1) ** 2 - 1
    harmonics = []
    for color in range(3):
        harmonics.append(f"f_dc_{color}")
        harmonics.extend(f"f_rest_{i}" for i in range(color * rest, (color + 1) * rest))
    return {
        "means": ["x", "y", "z"],
        "scales": [f"scale_{i}" for i in range(3)],
        "rotations": [f"rot_{i}" for i in range(4)],
        "harmonics": harmonics,
        "opacities": ["opacity"],
    }


def _unit(rotations: Tensor) -> Tensor:
    """Unit quaternions; the identity where there is no length, as some programs write it."""
    length = rotations.norm(dim=-1, keepdim=True)
    identity = rotations.new_tensor([1.0, 0.0, 0.0, 0.0])
    return torch.where(length == 0, identity, rotations / length)
