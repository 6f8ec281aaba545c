"""The ``.splat`` format: 32 bytes a Gaussian, without a header and without view-dependent colour.

For each Gaussian: position and standard deviations (three little-endian floats each), red, green,
blue and opacity (a byte each), and the rotation's w, x, y, z as bytes, 128 being 0 and 0 being -1.
Where antimatter15's viewer, which the format comes from, sorts what it writes by size, we keep the
order: it says nothing about the picture.
"""

from pathlib import Path

import numpy as np
import torch

from mvsplat.export.formats.packing import AT_A_TIME, to_bytes, to_colors, to_constant, unit
from mvsplat.export.splat_format import SplatFormat
from mvsplat.types import Gaussians

_ROW = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)]
)


class AntimatterSplatFormat(SplatFormat):
    """The format ``.splat``."""

    about = "antimatter15's, without view-dependent colour"

    def write(self, gaussians: Gaussians, path: Path) -> None:
        with path.open("wb") as file:
            for start in range(0, gaussians.means.shape[1], AT_A_TIME):
                span = slice(start, start + AT_A_TIME)
                means = gaussians.means[0, span].cpu()
                rows = np.empty(len(means), _ROW)
                rows["mean"], rows["scale"] = means, gaussians.scales[0, span].cpu()
                color = to_colors(gaussians.harmonics[0, span, :, 0])
                opacity = gaussians.opacities[0, span, None]
                rows["color"] = to_bytes(255 * torch.cat([color, opacity], -1)).cpu()
                rotation = unit(gaussians.rotations[0, span].cpu().float())
                rows["rotation"] = to_bytes(128 * rotation + 128)
                rows.tofile(file)

    def read(self, path: Path) -> Gaussians:
        self.check(path)
        rows = np.fromfile(path, _ROW)
        count = len(rows)
        means, scales = (torch.from_numpy(np.ascontiguousarray(rows[n])) for n in ("mean", "scale"))
        harmonics, opacities = torch.empty(count, 3, 1), torch.empty(count)
        rotations = torch.empty(count, 4)
        for start in range(0, count, AT_A_TIME):
            span = slice(start, start + AT_A_TIME)
            color = torch.from_numpy(rows["color"][span] / np.float32(255))
            harmonics[span, :, 0], opacities[span] = to_constant(color[:, :3]), color[:, 3]
            rotations[span] = unit(torch.from_numpy(rows["rotation"][span] / np.float32(128) - 1))
        return Gaussians(
            means[None], scales[None], rotations[None], harmonics[None], opacities[None]
        )

    def check(self, path: Path) -> None:
        size = path.stat().st_size
        if size == 0:
            raise ValueError(f"{path} is empty")
        if size % _ROW.itemsize:
            raise ValueError(
                f"{path} is damaged, or no .splat file: it has {size} bytes, expected "
                f"{_ROW.itemsize} for every Gaussian"
            )
