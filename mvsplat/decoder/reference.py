"""The truth about splatting: dense, differentiable PyTorch, slow and short.

Every Gaussian is evaluated at every pixel, in the tensors' own precision (float64 in tests).  The
rasterizers must agree with it; conventions and constants are explained in ``splatting_decoder``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.rotations import quaternion_to_matrix
from mvsplat.geometry.spherical_harmonics import evaluate

BLUR = 0.3
ALPHA_MAX, ALPHA_CUT = 0.999, 1 / 255
TRANSMITTANCE_CUT = 1e-4
NEAR_PLANE, FAR_PLANE = 0.2, 1e10


def splat(
    means: Float[Tensor, "g 3"],
    scales: Float[Tensor, "g 3"],
    rotations: Float[Tensor, "g 4"],
    harmonics: Float[Tensor, "g 3 k"],
    opacities: Float[Tensor, " g"],
    camera: Float[Tensor, "3 4"],
    center: Float[Tensor, "3"],
    lens: Float[Tensor, "4"],
    background: list[float],
    height: int,
    width: int,
    degree: int,
    antialiased: bool,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Colour, accumulated depth and transmittance of one view; arguments as the operator's."""
    points = means @ camera[:, :3].T + camera[:, 3]
    visible = (points[:, 2] >= NEAR_PLANE) & (points[:, 2] <= FAR_PLANE)
    order = torch.nonzero(visible)[:, 0]
    order = order[torch.sort(points[order, 2], stable=True).indices]
    points = points[order]
    axes = (quaternion_to_matrix(rotations) * scales[:, None, :])[order]
    xy, cov, compensation = project(points, camera[:, :3] @ axes, lens, height, width)
    opacity = opacities[order] * (compensation if antialiased else 1)
    color = evaluate(harmonics[order], means[order] - center, degree)
    color = (color + 0.5).clamp(min=0)
    weights, transmittance = composite(alphas(xy, cov, opacity, height, width))
    image = torch.einsum("ghw,gc->chw", weights, color)
    image = image + transmittance * image.new_tensor(background)[:, None, None]
    return image, torch.einsum("ghw,g->hw", weights, points[:, 2]), transmittance


def project(
    points: Float[Tensor, "g 3"],
    axes: Float[Tensor, "g 3 3"],
    lens: Float[Tensor, "4"],
    height: int,
    width: int,
) -> tuple[Float[Tensor, "g 2"], Float[Tensor, "g 2 2"], Float[Tensor, " g"]]:
    """Pixel positions, dilated 2-D covariances and Mip-Splatting's compensation.

    ``points`` and ``axes`` (principal axes as columns) are in camera coordinates; EWA splatting,
    Zwicker et al. 2001, with x/z and y/z clamped in the Jacobian.
    """
    size = lens.new_tensor([width, height])
    focal, principal = lens[:2], lens[2:]
    z = points[:, 2:]
    ratio = points[:, :2] / z
    margin = 0.3 * 0.5 * size / focal
    clamped = ratio.clamp(-principal / focal - margin, (size - principal) / focal + margin)
    jacobian = torch.cat([torch.diag_embed(focal / z), (-focal / z * clamped)[..., None]], dim=-1)
    footprint = jacobian @ axes
    sharp = footprint @ footprint.mT
    blurred = sharp + BLUR * torch.eye(2).to(sharp)
    compensation = (torch.det(sharp) / torch.det(blurred)).clamp(min=0).sqrt()
    return ratio * focal + principal, blurred, compensation


def alphas(
    xy: Float[Tensor, "g 2"],
    cov: Float[Tensor, "g 2 2"],
    opacity: Float[Tensor, " g"],
    height: int,
    width: int,
) -> Float[Tensor, "g h w"]:
    """Each Gaussian's alpha at each pixel centre, 0 where it is under the cut."""
    columns = torch.arange(width).to(xy) + 0.5
    rows = torch.arange(height).to(xy) + 0.5
    dx = (columns - xy[:, :1])[:, None, :]
    dy = (rows - xy[:, 1:])[:, :, None]
    conic = torch.linalg.inv(cov)[..., None, None]
    exponent = conic[:, 0, 0] * dx**2 / 2 + conic[:, 0, 1] * dx * dy + conic[:, 1, 1] * dy**2 / 2
    alpha = (opacity[:, None, None] * torch.exp(-exponent)).clamp(max=ALPHA_MAX)
    return torch.where(alpha >= ALPHA_CUT, alpha, 0)


def composite(
    alpha: Float[Tensor, "g h w"],
) -> tuple[Float[Tensor, "g h w"], Float[Tensor, "h w"]]:
    """Weights of Gaussians sorted front to back, and what passes through all that were drawn."""
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:1]), 1 - alpha]), dim=0)
    drawn = through[1:] > TRANSMITTANCE_CUT  # falls once: transmittance never rises
    weights = torch.where(drawn, alpha * through[:-1], 0)
    return weights, torch.where(drawn, 1 - alpha, 1).prod(dim=0)
