"""How near and far a scene is, as a model of depth says that has looked at its photographs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.geometry.depth_bounds import percentiles
from mvsplat.geometry.view_groups import measure_views, neighbour_groups
from mvsplat.reconstruction.checkpoint import TrainedDepth, views_at_once
from mvsplat.reconstruction.depth_range import DepthRange
from mvsplat.reconstruction.frames import CroppedFrame, UsedPhoto, as_views, spread
from mvsplat.reconstruction.scaling import scaling_to
from mvsplat.reconstruction.starting import whole_shape

# The search for depth begins at half of what is otherwise taken for the nearest.
_NEARER = 0.5
# A model's depth scatters where it is unsure, and says something of every pixel: less room than for
# sparse points is needed.
_ROOM = (0.9, 1.2)
# So many groups tell; each takes as long as predicting Gaussians does.
_MOST_GROUPS = 4

Progress = Callable[[int, int], None]
"""Is told how many groups are done, and of how many."""


def bounds_of_photos(
    depth: TrainedDepth,
    photos: Sequence[UsedPhoto],
    guess: DepthRange,
    progress: Progress = lambda done, total: None,
) -> Bounds:
    """Bounds from the depth of photographs, a few groups of neighbours, evenly spread.

    Args:
        depth: The model, which sees the scene at the scale it was trained with.
        photos: Photographs with cameras.
        guess: What is known of the scene's depth otherwise: where to search, and which photographs
            show the same.
        progress: Is told after each group.
    """
    shapes = [photo.photograph.shape for photo in photos]
    usual = max(shapes, key=shapes.count)
    shape = whole_shape(depth.image_shape, usual, depth.model.divisor)
    near, far, _ = guess.bounds
    extrinsics = torch.stack([photo.extrinsics for photo in photos])
    intrinsics = torch.stack([photo.intrinsics for photo in photos])
    pairs = measure_views(extrinsics, intrinsics, near, far, guess.points)
    size = views_at_once(depth.context_views, len(photos))
    groups = spread(neighbour_groups(pairs, size), _MOST_GROUPS)
    found = []
    for done, group in enumerate(groups):
        progress(done, len(groups))
        frames = [photos[member].crop(shape) for member in group.members]
        seen = _depth_of(depth, frames, _NEARER * near)
        found += [_counting(part, frame) for part, frame in zip(seen, frames, strict=True)]
    depths = torch.cat(found)
    if not len(depths):
        return guess.bounds
    nearest, farthest = percentiles(depths)
    return Bounds(nearest * _ROOM[0], farthest * _ROOM[1], f"the depth of {depth.name}")


def _counting(depth: Float[Tensor, "h w"], frame: CroppedFrame) -> Float[Tensor, " n"]:
    """The depths of pixels that count."""
    if frame.mask is None:
        return depth.flatten()
    return depth[F.interpolate(frame.mask[None, None].float(), depth.shape)[0, 0] > 0]


@torch.no_grad()
def _depth_of(
    trained: TrainedDepth, frames: list[CroppedFrame], near: float
) -> Float[Tensor, "v h w"]:
    """Depth of photographs that the model sees at once, in the scene's unit, from ``near`` on."""
    views = as_views(frames, near, near * trained.far / trained.near)
    scaling = scaling_to(near, trained.near, views.extrinsics[0])
    scaled = replace(
        views,
        extrinsics=scaling.cameras(views.extrinsics),
        near=views.near * scaling.factor,
        far=views.far * scaling.factor,
    )
    device = next(trained.model.parameters()).device
    return trained.model(scaled.to(device)).depth[0].cpu() / scaling.factor
