"""Filling what no Gaussian covers from the colours around it."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LEAST_COVER = 1e-4


def fill_uncovered(
    color: Float[Tensor, "n 3 h w"],
    alpha: Float[Tensor, "n 1 h w"],
    background: Float[Tensor, "3"],
) -> Float[Tensor, "n 3 h w"]:
    """Colours with the uncovered shares of pixels filled, smoothly, from near ones or, if there are
    none, from far ones (pull-push, Gortler et al., "The Lumigraph", SIGGRAPH 1996).

    Args:
        color: Multiplied by alpha already.
        alpha: How much of each pixel is covered.
        background: The colour of a picture in which nothing is.
    """
    levels = [(color, alpha)]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append(
            (
                F.avg_pool2d(levels[-1][0], 2, ceil_mode=True),
                F.avg_pool2d(levels[-1][1], 2, ceil_mode=True),
            )
        )
    mean, cover = levels.pop()
    missing = (_LEAST_COVER - cover).clamp(min=0) * background[:, None, None]
    filled = (mean + missing) / cover.clamp(min=_LEAST_COVER)
    for mean, cover in reversed(levels):
        coarser = F.interpolate(filled, size=mean.shape[-2:], mode="bilinear", align_corners=False)
        filled = mean + (1 - cover) * coarser
    return filled
