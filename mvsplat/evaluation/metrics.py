"""How good pictures and depths are; every metric is per view, the way published tables count."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.projection import known_depth

HIGHEST_PSNR = 100.0


def psnr(
    prediction: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of colours clipped to [0, 1].

    At most ``HIGHEST_PSNR``, which identical pictures get, so that means stay finite.
    """
    difference = prediction.clamp(0, 1).float() - truth.clamp(0, 1).float()
    error = difference.square().mean(dim=(-3, -2, -1))
    return -10 * error.clamp(min=10 ** (-HIGHEST_PSNR / 10)).log10()


def ssim(
    prediction: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of colours clipped to [0, 1], as scikit-image computes it.

    Gaussian window of 11 pixels (sigma 1.5), sample covariances, data range 1, the mean over
    channels and over the pixels whose window lies inside the picture (Wang et al. 2004).

    Raises:
        ValueError: The pictures are smaller than the window.
    """
    window, sigma, height, width = 11, 1.5, *truth.shape[-2:]
    if min(height, width) < window:
        raise ValueError(
            f"SSIM needs pictures of at least {window} x {window} pixels, got {height} x {width}"
        )
    # Variances are differences of nearly equal numbers where a picture is flat: hence float64.
    x = prediction.clamp(0, 1).double().reshape(-1, 1, height, width)
    y = truth.clamp(0, 1).double().reshape(-1, 1, height, width)
    offsets = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    kernel = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0)

    def smooth(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))

    mean_x, mean_y = smooth(x), smooth(y)
    unbiased = window**2 / (window**2 - 1)
    variances = unbiased * (smooth(x * x + y * y) - mean_x**2 - mean_y**2)
    covariance = unbiased * (smooth(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).mean(dim=(-2, -1)).reshape(truth.shape[:-2]).mean(-1).float()


def abs_rel(
    depth: Float[Tensor, "*batch h w"], truth: Float[Tensor, "*batch h w"]
) -> Float[Tensor, "*batch"]:
    """AbsRel: the mean of |depth - truth| / truth over the pixels whose depth is known.

    Pixels whose true depth is not positive and finite are unknown; a view without any known
    pixel gets NaN.
    """
    known = known_depth(truth)
    error = (depth - truth).abs() / torch.where(known, truth, 1)
    return torch.where(known, error, 0).sum(dim=(-2, -1)) / known.sum(dim=(-2, -1))
