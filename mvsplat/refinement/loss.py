"""How far a rendering is from a photograph: 0.8 L1 + 0.2 (1 - SSIM), as 3DGS trains with."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
SSIM_SHARE = 0.2
C1, C2 = 0.01**2, 0.03**2


def photometric_loss(
    rendered: Float[Tensor, "3 h w"],
    photo: Float[Tensor, "3 h w"],
    mask: Bool[Tensor, "h w"] | None = None,
) -> Float[Tensor, ""]:
    """0.8 L1 + 0.2 (1 - SSIM), means over the pixels that count (Kerbl et al., 2023).

    SSIM is that of :func:`mvsplat.evaluation.metrics.ssim` but for colours outside of [0, 1],
    which are not clipped; a window counts if its centre does, and a picture smaller than the
    window has no SSIM. Where a pixel does not count, the rendering is taken to be right.
    """
    if mask is not None:
        rendered = torch.where(mask, rendered, photo)
    counted = torch.ones_like(photo[0], dtype=torch.bool) if mask is None else mask
    absolute = (rendered - photo).abs().mean(dim=0).sum() / counted.sum().clamp(min=1)
    if min(photo.shape[-2:]) < WINDOW:
        return (1 - SSIM_SHARE) * absolute
    edge = WINDOW // 2
    centres = counted[edge:-edge, edge:-edge]
    dissimilar = ((1 - ssim_map(rendered, photo)).mean(dim=0) * centres).sum()
    dissimilar = dissimilar / centres.sum().clamp(min=1)
    return (1 - SSIM_SHARE) * absolute + SSIM_SHARE * dissimilar


def ssim_map(x: Float[Tensor, "3 h w"], y: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h-10 w-10"]:
    """SSIM around every pixel whose window lies inside the picture (Wang et al. 2004)."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.softmax(-offsets.square() / (2 * SIGMA**2), dim=0)
    planes = torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 1)
    # As channels of one picture: as pictures of one channel, torch takes twenty times as long.
    row = kernel.repeat(len(planes), 1, 1, 1)
    smooth = F.conv2d(planes[None], row, groups=len(planes))
    smooth = F.conv2d(smooth, row.view(-1, 1, WINDOW, 1), groups=len(planes))[0]
    mean_x, mean_y, square_x, square_y, product = smooth.unflatten(0, (5, 3))
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variances = unbiased * (square_x + square_y - mean_x**2 - mean_y**2)
    covariance = unbiased * (product - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)
