"""Gaussians as PLY files that every 3DGS viewer opens, and back.

The layout is that of Kerbl et al. (2023): for each Gaussian little-endian floats x y z, nx ny nz
(unused), f_dc_* (the constant harmonics of red, green, blue), f_rest_* (the others, all of red
first, then green, then blue), opacity (its logit), scale_* (natural logarithms), rot_*
(w, x, y, z).
World frame and harmonics basis are those of :class:`mvsplat.types.Gaussians`.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mvsplat.export.formats.packed_ply import write_packed
from mvsplat.export.placement import Axis, Placement
from mvsplat.export.ply_reading import check_ply, degree_held, read_ply
from mvsplat.export.soundness import one_scene, without_broken
from mvsplat.export.splat_format import SplatFormat
from mvsplat.files import replacing
from mvsplat.types import Gaussians

_WRITTEN_AT_A_TIME = 1 << 15


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
    degree = degree_held(chosen["harmonics"].shape[-1])
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


def load_ply(path: str | Path, activated: bool | None = None) -> Gaussians:
    """Read a 3DGS PLY file, of this package or any other program, as a batch of one scene.

    Properties may be in any order and of any number type, text or binary, among others. Without
    f_dc_*, colours named red, green and blue are taken; points that have no scales, rotations and
    opacities become small round splats. PlayCanvas' compressed PLY is read, too. Gaussians with
    values that are not finite are left out and counted in a warning.

    Args:
        path: The file.
        activated: Whether opacities and scales are stored as they are, as some feed-forward
            programs do, and not as the logits and logarithms of the format; None finds out, and
            says in a warning where they are. True takes those as they are that can be (opacities
            in [0, 1], positive scales).

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        ValueError: The file is damaged, or is a file of something else, which is named.
    """
    return without_broken(read_ply(Path(path), activated), path)


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

    def read(self, path: Path, *_: Any, activated: bool | None = None) -> Gaussians:
        return read_ply(path, activated)

    def check(self, path: Path) -> None:
        check_ply(path)


class CompressedPlyFormat(SplatFormat):
    """The format ``.compressed.ply``; plain PLY of such a name is read, too."""

    about = "PlayCanvas' compressed PLY"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        write_packed(gaussians, path)

    def read(self, path: Path) -> Gaussians:
        return read_ply(path)

    def check(self, path: Path) -> None:
        check_ply(path)


def _fields(gaussians: Gaussians) -> dict[str, Tensor]:
    return {
        "mean": gaussians.means[0],
        "harmonics": gaussians.harmonics[0],
        "opacity": gaussians.opacities[0],
        "scale": gaussians.scales[0],
        "rotation": gaussians.rotations[0],
    }


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
