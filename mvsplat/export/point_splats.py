"""Point clouds shown as splats: round ones, so small that neighbours just touch."""

import logging
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.types import Gaussians

_ASKED = 128
_AT_A_TIME = 1 << 18
_log = logging.getLogger("mvsplat.export")


def point_splats(
    means: Float[Tensor, "g 3"], harmonics: Float[Tensor, "g 3 k"], path: str | Path
) -> Gaussians:
    """Opaque round splats at points, all of one size: half of what lies between neighbours."""
    size = 0.5 * _spacing(means)
    _log.warning(
        "%s is a point cloud: its %s points are read as round splats of %.3g units. Gaussians come "
        "from photographs (mvsplat reconstruct)",
        path,
        len(means),
        size,
    )
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return Gaussians(
        means=means[None],
        scales=torch.full_like(means, size)[None],
        rotations=identity.repeat(len(means), 1)[None],
        harmonics=harmonics[None],
        opacities=torch.ones(1, len(means)),
    )


def _spacing(points: Float[Tensor, "g 3"]) -> float:
    """Median distance to the nearest other point, of some points; 1 where there is none."""
    points = points[points.isfinite().all(-1)]
    if len(points) < 2:
        return 1.0
    asked = points[torch.linspace(0, len(points) - 1, min(_ASKED, len(points))).long()]
    nearest = torch.full((len(asked),), torch.inf)
    for part in points.split(_AT_A_TIME):
        squares = torch.zeros(len(asked), len(part))
        for axis in range(3):  # the products that cdist uses lose small distances far from 0
            squares += (asked[:, axis, None] - part[None, :, axis]).square()
        squares[squares == 0] = torch.inf
        nearest = torch.minimum(nearest, squares.amin(-1))
    nearest = nearest[nearest.isfinite()]
    return float(nearest.sqrt().median()) if len(nearest) else 1.0
