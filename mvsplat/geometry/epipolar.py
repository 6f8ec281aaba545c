"""Epipolar segments: what a pixel's ray looks like in another view.

Rays are in world space, image coordinates normalised to [0, 1] as in ``mvsplat.types``. Distances
are along unit-length directions, not along an optical axis.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.geometry.projection import camera_rays, homogeneous, invert_rigid

# Rays whose directions' cosine is larger are parallel: they meet at infinity.
PARALLEL_COSINE = 1 - 1e-5


def world_rays(
    coordinates: Float[Tensor, "n p 2"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
) -> tuple[Float[Tensor, "n p 3"], Float[Tensor, "n p 3"]]:
    """Origins and unit directions of the rays through image points."""
    rays = torch.nn.functional.normalize(camera_rays(coordinates, intrinsics), dim=-1)
    directions = rays @ extrinsics[:, :3, :3].mT
    return extrinsics[:, None, :3, 3].expand_as(directions), directions


def epipolar_segments(
    origins: Float[Tensor, "n p 3"],
    directions: Float[Tensor, "n p 3"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    near: Float[Tensor, " n"],
    far: Float[Tensor, " n"],
) -> tuple[Float[Tensor, "n p 2"], Float[Tensor, "n p 2"], Bool[Tensor, "n p"]]:
    """Start and end of each ray's image in a view, and whether the view sees it at all.

    A segment starts at the projection of the point at distance near if the frame shows it, else
    where the half-infinite ray first crosses the frame; it ends at the projection of the point at
    far, else at the last crossing. Rays that are not seen start and end at (0, 0).
    """
    to_view = intrinsics @ invert_rigid(extrinsics)[:, :3]
    origin = homogeneous(origins) @ to_view.mT
    direction = directions @ to_view[:, :, :3].mT

    ends, inside = [], []
    for distance in (near, far):
        point = origin + distance[:, None, None] * direction
        ends.append(point[..., :2] / point[..., 2:])
        inside.append(_in_frame(ends[-1]) & (point[..., 2] > 0))
    crossings, distances = _frame_crossings(origin, direction)
    first = distances.argmin(dim=-1, keepdim=True)
    last = distances.where(distances.isfinite(), -1).argmax(dim=-1, keepdim=True)
    crosses = distances.isfinite().any(dim=-1)
    seen = (inside[0] | crosses) & (inside[1] | crosses)
    segment = []
    for end, shown, index in zip(ends, inside, (first, last)):
        crossing = torch.take_along_dim(crossings, index[..., None], dim=-2).squeeze(-2)
        point = torch.where(shown[..., None], end, crossing)
        segment.append(torch.where(seen[..., None], point, 0))
    return segment[0], segment[1], seen


def _in_frame(points: Float[Tensor, "*batch 2"]) -> Bool[Tensor, "*batch"]:
    return ((points >= 0) & (points <= 1)).all(dim=-1)


def _frame_crossings(
    origin: Float[Tensor, "n p 3"], direction: Float[Tensor, "n p 3"]
) -> tuple[Float[Tensor, "n p 4 2"], Float[Tensor, "n p 4"]]:
    """Where rays in image space cross the lines of the frame's edges; infinitely far if off it."""
    points, distances = [], []
    for axis in (0, 1):
        for edge in (0.0, 1.0):
            # The coordinate is the edge's where the ray meets a plane through the camera centre.
            distance = (edge * origin[..., 2] - origin[..., axis]) / (
                direction[..., axis] - edge * direction[..., 2]
            )
            point = origin + distance[..., None] * direction
            along = point[..., 1 - axis] / point[..., 2]
            crossing = [along, torch.full_like(along, edge)]
            points.append(torch.stack(crossing if axis else crossing[::-1], dim=-1))
            valid = (distance > 0) & (point[..., 2] > 0) & (along >= 0) & (along <= 1)
            distances.append(torch.where(valid, distance, torch.inf))
    return torch.stack(points, dim=-2), torch.stack(distances, dim=-1)


def distance_to_meeting(
    origins: Float[Tensor, "*#batch 3"],
    directions: Float[Tensor, "*#batch 3"],
    other_origins: Float[Tensor, "*#batch 3"],
    other_directions: Float[Tensor, "*#batch 3"],
) -> Float[Tensor, "*batch"]:
    """Distance of the points nearest to both lines from the first origins; infinite if parallel."""
    between = other_origins - origins
    cosine = (directions * other_directions).sum(-1)
    along, other_along = (between * directions).sum(-1), (between * other_directions).sum(-1)
    sine_squared = 1 - cosine * cosine
    first = (along - cosine * other_along) / sine_squared
    second = (cosine * along - other_along) / sine_squared
    # The least-squares point is halfway between the lines' closest points.
    point = (first[..., None] * directions + between + second[..., None] * other_directions) / 2
    return torch.where(cosine > PARALLEL_COSINE, torch.inf, point.norm(dim=-1))
