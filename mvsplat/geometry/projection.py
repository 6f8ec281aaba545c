"""Rays and reprojection of pinhole cameras.

Conventions as in ``mvsplat.types``: OpenCV camera-to-world extrinsics, intrinsics normalised by
the image's width and height, image coordinates (x, y) in [0, 1], pixel centres at (i + 0.5) / n.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.geometry.numbers_beside import numbers_beside

# What interpolation and files' few digits leave of the zeros and the one of intrinsics.
_ROUNDING = 1e-4


def pixel_centers(height: int, width: int, device: torch.device) -> Float[Tensor, "h w 2"]:
    """Normalised image coordinates (x, y) of the pixels' centres."""
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def homogeneous(points: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch e"]:
    """The points with a coordinate 1 appended."""
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


def well_formed(intrinsics: Float[Tensor, "*batch 3 3"]) -> Bool[Tensor, "*batch"]:
    """Whether these are finite [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy."""
    k = intrinsics
    off = torch.stack([k[..., 1, 0], k[..., 2, 0], k[..., 2, 1], k[..., 2, 2] - 1], dim=-1)
    focal = k.diagonal(dim1=-2, dim2=-1)[..., :2]
    finite = k.isfinite().flatten(-2).all(-1)
    return finite & (focal > 0).all(-1) & (off.abs() < _ROUNDING).all(-1)


def inverse_intrinsics(intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Inverse without the error check that would wait for an accelerator."""
    return torch.linalg.inv_ex(intrinsics.float()).inverse


def camera_rays(
    coordinates: Float[Tensor, "*batch n 2"], intrinsics: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch n 3"]:
    """Camera-frame rays with z = 1: times depth along the optical axis, they are points."""
    return homogeneous(coordinates) @ inverse_intrinsics(intrinsics).mT


def invert_rigid(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of a rotation and a translation."""
    rotation = pose[..., :3, :3].mT
    translation = -rotation @ pose[..., :3, 3:]
    return torch.cat([torch.cat([rotation, translation], dim=-1), pose[..., 3:, :]], dim=-2)


def pixel_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], height: int, width: int
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics in units of pixels of an image of this size."""
    return intrinsics * numbers_beside(intrinsics, width, height, 1)[:, None]


def plane_sweep_coordinates(
    reference: tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]],
    other: tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]],
    depths: Float[Tensor, "n q d"],
    height: int,
    width: int,
) -> Float[Tensor, "n p d 2"]:
    """Where another view sees the reference view's pixels at each candidate depth.

    As in the published model, a pixel's coordinates are its integer column and row, and the
    projected z is clamped at 1e-3.

    Args:
        reference: Extrinsics and normalised intrinsics of the view whose pixels are swept.
        other: Those of the view that is looked into.
        depths: Candidate depths along the reference camera's optical axis, of each pixel (row by
            row) or of all of them (q = 1).
        height: Rows of both maps.
        width: Columns of both maps.

    Returns:
        Pixel coordinates (x, y) in the other view; pixels row by row.
    """
    to_other = invert_rigid(other[0]) @ reference[0]
    other_intrinsics = pixel_intrinsics(other[1], height, width)
    from_pixel = inverse_intrinsics(pixel_intrinsics(reference[1], height, width))
    x, y = (torch.arange(n, device=depths.device, dtype=torch.float32) for n in (width, height))
    pixels = homogeneous(torch.cartesian_prod(y, x).flip(-1))
    directions = pixels @ (other_intrinsics @ to_other[:, :3, :3] @ from_pixel).mT
    origin = (other_intrinsics @ to_other[:, :3, 3:]).mT
    points = directions[:, :, None] * depths[..., None] + origin[:, :, None]
    return points[..., :2] / points[..., 2:].clamp_min(1e-3)


def known_depth(depth: Float[Tensor, "*shape"]) -> Tensor:
    """Where a depth is positive and finite; 0 is how data says that it is not known."""
    return (depth > 0) & depth.isfinite()
