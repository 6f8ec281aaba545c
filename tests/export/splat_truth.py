"""How far Gaussians are from others, in any order, as formats that round values leave them."""

import numpy as np
import torch

from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.types import Gaussians


def largest_errors(truth: Gaussians, found: Gaussians) -> dict[str, float]:
    """The largest error of each field; Gaussians are matched by their positions.

    Rotations are compared with scales as covariances, relative to each one's size, since several
    quaternions stand for the same Gaussian; colours where both can be shown.
    """
    assert found.means.shape == truth.means.shape
    order = torch.cdist(truth.means[0].double(), found.means[0].double()).argmin(1)
    assert len(order.unique()) == len(order)
    fields = {
        name: getattr(found, name)[0, order]
        for name in ("means", "scales", "harmonics", "opacities", "covariances")
    }
    covariances = truth.covariances[0]
    size = covariances.norm(dim=(-1, -2))
    color, found_color = (
        (harmonics[..., 0] * normalization(0, 0) + 0.5).clamp(0, 1)
        for harmonics in (truth.harmonics[0], fields["harmonics"])
    )
    coefficients = min(truth.harmonics.shape[-1], found.harmonics.shape[-1])
    rest, found_rest = (
        harmonics[..., 1:coefficients] for harmonics in (truth.harmonics[0], fields["harmonics"])
    )
    return {
        "means": float((truth.means[0] - fields["means"]).abs().max()),
        "log scales": float((truth.scales[0].log() - fields["scales"].log()).abs().max()),
        "opacities": float((truth.opacities[0] - fields["opacities"]).abs().max()),
        "colors": float((color - found_color).abs().max()),
        "rest": float(np.max((rest - found_rest).abs().numpy(), initial=0)),
        "shapes": float(((covariances - fields["covariances"]).norm(dim=(-1, -2)) / size).max()),
    }
