"""Gaussians as viser's shader wants them, so that the browser shows what our decoder renders.

viser (1.1) draws one colour a splat, 8 bits a channel, with 16-bit covariances: the page is sent
the colours that its own camera sees, of a scene of moderate size. The shader also leaves out
footprints whose opacity times determinant (px^4, dilation included) is below 1/4, so that distant
things would fade away; they are widened until they are drawn, at the same integrated opacity.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.spherical_harmonics import degree_of, evaluate
from mvsplat.types import Gaussians
from mvsplat.viewer.scene import DILATION

_SMALLEST = 0.26  # a little over viser's 1/4: opacities are rounded to 8 bits


@dataclass
class Buffers:
    """Arguments of viser's ``set_gaussians``."""

    centers: Float[np.ndarray, "g 3"]
    covariances: Float[np.ndarray, "g 3 3"]
    rgbs: Float[np.ndarray, "g 3"]
    opacities: Float[np.ndarray, "g 1"]


@torch.no_grad()
def buffers(gaussians: Gaussians, pose: Float[Tensor, "4 4"], focal: float) -> Buffers:
    """What to send to a browser whose camera is at ``pose``.

    Args:
        gaussians: One scene.
        pose: The browser's camera, camera-to-world.
        focal: Its focal length in pixels.
    """
    means, covariances = gaussians.means[0], gaussians.covariances[0]
    harmonics = gaussians.harmonics[0]
    degree = degree_of(harmonics.shape[-1])
    color = (evaluate(harmonics, means - pose[:3, 3], degree) + 0.5).clamp(0, 1)
    variance, opacity = _widened(means, covariances, gaussians.opacities[0], pose, focal)
    covariances = covariances + torch.diag_embed(variance[:, None].expand(-1, 3))
    arrays = (means, covariances, color, opacity[:, None])
    return Buffers(*(array.float().cpu().numpy() for array in arrays))


def _widened(
    means: Float[Tensor, "g 3"],
    covariances: Float[Tensor, "g 3 3"],
    opacities: Float[Tensor, " g"],
    pose: Float[Tensor, "4 4"],
    focal: float,
) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
    """Variance to add along every axis, and the opacity that goes with it.

    With d the determinant of the footprint and d' of the widened one, opacity a becomes
    a sqrt(d / d'), and a sqrt(d d') is to reach viser's bound.
    """
    points = (means - pose[:3, 3]) @ pose[:3, :3]
    z = points[:, 2:].clamp(min=1e-6)
    ahead = points[:, 2] > 0
    jacobian = (
        focal
        / z[..., None]
        * torch.cat(
            [torch.eye(2).to(z).expand(len(z), 2, 2), -(points[:, :2] / z)[..., None]], dim=-1
        )
    )
    projection = jacobian @ pose[:3, :3].mT
    footprint = projection @ covariances @ projection.mT
    (a, b), (_, c) = (row.unbind(-1) for row in footprint.unbind(-2))
    a, c = a + DILATION, c + DILATION
    determinant = a * c - b * b
    wanted = (_SMALLEST / opacities.clamp(min=1e-3)) ** 2 / determinant
    small = ahead & (opacities * determinant < _SMALLEST)
    half = (a + c) / 2
    added = torch.where(small, (half**2 - determinant + wanted).clamp(min=0).sqrt() - half, 0)
    opacity = torch.where(small, opacities * (determinant / wanted).sqrt(), opacities)
    return added.clamp(min=0) * (z[:, 0] / focal) ** 2, opacity
