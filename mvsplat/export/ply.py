"""Gaussians as PLY files that every 3DGS viewer opens, and back.

The layout is that of Kerbl et al. (2023): for each Gaussian little-endian floats x y z, nx ny nz
(unused), f_dc_* (the constant harmonics of red, green, blue), f_rest_* (the others, all of red
first, then green, then blue), opacity (its logit), scale_* (natural logarithms), rot_*
(w, x, y, z).
World frame and harmonics basis are those of :class:`mvsplat.types.Gaussians`.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvsplat.export.files import replacing
from mvsplat.types import Gaussians

_HIGHEST_DEGREE = 3
_GAUSSIANS_AT_A_TIME = 1 << 16


def save_ply(
    gaussians: Gaussians,
    path: str | Path,
    scene: int | None = None,
    min_opacity: float = 0.0,
    max_scale: float = math.inf,
) -> None:
    """Write one scene's Gaussians; an existing file is replaced once all is written.

    Args:
        gaussians: A batch of scenes.
        path: The file to write; folders are created.
        scene: Which scene of the batch; may be left out if there is only one.
        min_opacity: Leave out Gaussians that are less opaque.
        max_scale: Leave out Gaussians whose largest standard deviation is larger, in the scene's
            unit.

    Raises:
        ValueError: The scene is not in the batch, a value is not finite, or the harmonics are of
            no degree that PLY files have (0 to 3).
    """
    chosen = _one_scene(gaussians, scene)
    if min_opacity > 0 or max_scale < math.inf:
        kept = (chosen["opacity"] >= min_opacity) & (chosen["scale"].amax(-1) <= max_scale)
        chosen = {name: value[kept] for name, value in chosen.items()}
    count, degree = len(chosen["mean"]), _degree(chosen["harmonics"].shape[-1], str(path))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(_properties(degree), count))
        for start in range(0, count, _GAUSSIANS_AT_A_TIME):
            part = {k: v[start : start + _GAUSSIANS_AT_A_TIME] for k, v in chosen.items()}
            _rows(part, start).tofile(file)


def load_ply(path: str | Path) -> Gaussians:
    """Read a 3DGS PLY file, of this package or any other program, as a batch of one scene.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or is a PLY file of something other than Gaussians.
    """
    from plyfile import PlyData, PlyParseError

    if not Path(path).is_file():
        raise FileNotFoundError(f"no PLY file at {path}")
    try:
        elements = PlyData.read(str(path))
    except (PlyParseError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no PLY file: {error}") from error
    if "vertex" not in elements:
        raise ValueError(f"{path} holds no Gaussians: it has no element named vertex")
    table = elements["vertex"].data
    rest = sum(name.startswith("f_rest_") for name in table.dtype.names)
    degree = _degree(1 + math.ceil(rest / 3), str(path))
    missing = [n for n in _properties(degree) if n not in table.dtype.names and n[0] != "n"]
    if missing:
        raise ValueError(
            f"{path} is not a file of 3-D Gaussians: its points have no {', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}; they have {', '.join(table.dtype.names[:8])}"
        )
    return _gaussians(table, degree)


def _one_scene(gaussians: Gaussians, scene: int | None) -> dict[str, Tensor]:
    scenes = len(gaussians.means)
    if scene is None and scenes != 1:
        raise ValueError(f"these are the Gaussians of {scenes} scenes: choose one with scene=")
    scene = 0 if scene is None else scene
    if not 0 <= scene < scenes:
        raise ValueError(f"there is no scene {scene}: these are the Gaussians of {scenes} scenes")
    return {
        "mean": gaussians.means[scene].detach(),
        "harmonics": gaussians.harmonics[scene].detach(),
        "opacity": gaussians.opacities[scene].detach(),
        "scale": gaussians.scales[scene].detach(),
        "rotation": gaussians.rotations[scene].detach(),
    }


def _degree(coefficients: int, path: str) -> int:
    """The degree of harmonics with so many coefficients."""
    for degree in range(_HIGHEST_DEGREE + 1):
        if coefficients == (degree + 1) ** 2:
            return degree
    raise ValueError(
        f"{path}: PLY files hold harmonics of degree 0 to {_HIGHEST_DEGREE}, which have 1, 4, 9 "
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


def _header(properties: list[str], count: int) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name in properties]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _rows(part: dict[str, Tensor], start: int) -> np.ndarray:
    """What the file holds of some Gaussians, a row each; ``start`` is the first one's number."""
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
    finite = rows.isfinite().all(dim=-1)
    if not finite.all():
        first = start + int((~finite).nonzero()[0])
        raise ValueError(f"Gaussian {first} has values that are not finite; nothing was written")
    return rows.cpu().numpy().astype("<f4", copy=False)


def _gaussians(table: np.ndarray, degree: int) -> Gaussians:
    def read(*names: str) -> Tensor:
        values = np.empty((len(table), len(names)), np.float32)
        for column, name in enumerate(names):
            values[:, column] = table[name]
        return torch.from_numpy(values)

    names = _properties(degree)
    rest = read(*(name for name in names if name.startswith("f_rest_")))
    constant = read("f_dc_0", "f_dc_1", "f_dc_2").unsqueeze(-1)
    harmonics = torch.cat([constant, rest.view(len(table), 3, (degree + 1) ** 2 - 1)], dim=-1)
    rotations = read("rot_0", "rot_1", "rot_2", "rot_3")
    return Gaussians(
        means=read("x", "y", "z")[None],
        scales=read("scale_0", "scale_1", "scale_2").exp()[None],
        rotations=torch.nn.functional.normalize(rotations, dim=-1)[None],
        harmonics=harmonics[None],
        opacities=read("opacity").squeeze(-1).sigmoid()[None],
    )
