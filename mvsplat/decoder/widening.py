"""Gaussians that look the same at every size of picture.

A renderer widens every footprint by 0.3 square pixels, and a model is trained with that: its
Gaussians leave gaps in larger pictures, whose pixels are smaller. Here the model's own pixels are
made part of the Gaussians: each is widened in space by what 0.3 of these pixels measure at its
place (the 3-D smoothing filter of Yu et al., "Mip-Splatting", CVPR 2024, with the dilation's
variance; opacities stay, as they do under dilation).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.projection import homogeneous, invert_rigid
from mvsplat.types import Gaussians, Views

_DILATION = 0.3  # of every renderer since 3DGS, in square pixels


def widened(
    gaussians: Gaussians, views: Views, enlargement: float | int = float("inf")
) -> Gaussians:
    """The Gaussians for pictures ``enlargement`` times as fine as the model's.

    At 1 nothing changes; without limit they carry all of the dilation, as suits a file whose
    viewers draw at any size.

    Args:
        gaussians: A batch of one scene.
        views: The views they were predicted from, at the size the model saw.
        enlargement: Pixels of the picture in one of the model's, along an axis.
    """
    if enlargement <= 1:
        return gaussians
    return widened_by_pixels(gaussians, pixel_size(gaussians.means[0], views), enlargement)


def widened_by_pixels(
    gaussians: Gaussians, pixel: Float[Tensor, " g"], enlargement: float | int = float("inf")
) -> Gaussians:
    """As :func:`widened`, for Gaussians of which the size of a pixel at each one's place is known.

    Args:
        gaussians: A batch of one scene.
        pixel: How large a pixel of the model's pictures is there, in the scene's unit.
        enlargement: Pixels of the picture in one of the model's, along an axis.
    """
    share = _DILATION * (1 - 1 / max(enlargement, 1.0) ** 2)
    return widened_by_variance(gaussians, share * pixel.to(gaussians.scales).square())


def widened_by_variance(gaussians: Gaussians, variance: Float[Tensor, " g"]) -> Gaussians:
    """The Gaussians of a batch of one scene, each wider by a variance in every direction."""
    return replace(gaussians, scales=(gaussians.scales.square() + variance[:, None]).sqrt())


def pixel_size(means: Float[Tensor, "g 3"], views: Views) -> Float[Tensor, " g"]:
    """How large a pixel is at each point, in the view that sees it finest."""
    pose = invert_rigid(views.extrinsics[0].double().to(means.device))
    k = views.intrinsics[0].double().to(means.device)
    height, width = views.image.shape[-2:]
    focal = torch.maximum(k[:, 0, 0] * width, k[:, 1, 1] * height)
    camera = homogeneous(means.double()) @ (k @ pose[:, :3]).mT  # [v, g, 3]
    x, y, z = camera.unbind(-1)
    seen = (z > 0) & (x >= 0) & (y >= 0) & (x <= z) & (y <= z)
    size = z / focal[:, None]
    finest = torch.where(seen, size, torch.inf).amin(dim=0)
    # What no view has in its frame is at its border: any view in front of it will do.
    anywhere = torch.where(z > 0, size, torch.inf).amin(dim=0)
    return torch.where(finest.isfinite(), finest, anywhere).nan_to_num(posinf=0).float()
