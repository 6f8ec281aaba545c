"""What a view looks like without any learning: the numbers that a trained model has to beat.

Pixel coordinates follow :mod:`mvsplat.types`: normalised, (0, 0) and (1, 1) are the outer corners.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.geometry.projection import known_depth
from mvsplat.types import Batch, Views


def nearest_view(batch: Batch) -> Float[Tensor, "b v 3 h w"]:
    """The nearest context view, copied: nearest by camera position, ties by viewing direction."""
    nearest = rank_context_views(batch)[..., 0]
    return torch.stack(
        [image[order] for image, order in zip(batch.context.image, nearest, strict=True)]
    )


def mean_color(batch: Batch) -> Float[Tensor, "b v 3 h w"]:
    """The mean colour of the context views, everywhere."""
    mean = batch.context.image.mean(dim=(1, 3, 4))
    return mean[:, None, :, None, None].expand_as(batch.target.image)


def median_plane(
    batch: Batch, depth: Float[Tensor, "b c h w"] | None = None
) -> Float[Tensor, "b v 3 h w"]:
    """Context views re-projected by one plane, parallel to the target's image plane.

    The plane is at the scene's median depth. Where it falls outside the nearest context view, the
    next nearest one fills in; where it is outside all of them, the nearest view's border is
    repeated.

    Args:
        batch: The context views and the target cameras.
        depth: Estimated depth of the context views, for data that has no exact depth.

    Raises:
        ValueError: Neither the data nor the caller has a depth.
    """
    plane = scene_depth(batch.context, depth)
    return torch.stack(
        [
            _plane_of_one_scene(batch, scene, order, plane[scene])
            for scene, order in enumerate(rank_context_views(batch))
        ]
    )


def scene_depth(
    views: Views, estimate: Float[Tensor, "b v h w"] | None = None
) -> Float[Tensor, " b"]:
    """Each scene's median depth, over the pixels of all views: exact where the data has it.

    A scene of a mixed batch that has no exact depth takes the estimate.

    Raises:
        ValueError: A scene has neither.
    """
    medians = []
    for scene in range(len(views.near)):
        for depth in (views.depth, estimate):
            known = None if depth is None else depth[scene][known_depth(depth[scene])]
            if known is not None and len(known):
                medians.append(known.float().median())
                break
        else:
            raise ValueError(f"scene {scene} of the batch has no exact depth and no estimated one")
    return torch.stack(medians)


def rank_context_views(batch: Batch) -> Int[Tensor, "b target context"]:
    """For every target view the context views, nearest camera position first.

    Cameras that are equally far away (to 1e-4 of the largest distance) are ranked by the angle
    between the viewing directions.
    """
    context, target = batch.context.extrinsics, batch.target.extrinsics
    distance = (target[:, :, None, :3, 3] - context[:, None, :, :3, 3]).norm(dim=-1)
    step = 1e-4 * distance.amax(dim=(1, 2), keepdim=True)
    rounded = torch.where(step > 0, (distance / step.clamp(min=1e-30)).round(), 0)
    cosine = torch.einsum("bti,bci->btc", target[..., :3, 2], context[..., :3, 2])
    by_direction = cosine.argsort(dim=-1, descending=True, stable=True)
    by_distance = rounded.gather(-1, by_direction).argsort(dim=-1, stable=True)
    return by_direction.gather(-1, by_distance)


def _plane_of_one_scene(
    batch: Batch, scene: int, order: Int[Tensor, "target context"], depth: Float[Tensor, ""]
) -> Float[Tensor, "target 3 h w"]:
    points = _plane_points(batch.target, scene, depth)
    samples = [_sample(batch.context, scene, choice, points) for choice in order.unbind(-1)]
    picture = samples[0][0]
    for sampled, inside in reversed(samples):  # the nearest view is painted last
        picture = torch.where(inside, sampled, picture)
    return picture.unflatten(-1, batch.target.image.shape[-2:])


def _plane_points(
    views: Views, scene: int, depth: Float[Tensor, ""]
) -> Float[Tensor, "v pixels 3"]:
    """World positions of the views' pixel centres at one depth along the optical axis."""
    height, width = views.image.shape[-2:]
    y, x = torch.meshgrid(
        (torch.arange(height, device=depth.device) + 0.5) / height,
        (torch.arange(width, device=depth.device) + 0.5) / width,
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3)
    camera = depth * pixels @ views.intrinsics[scene].inverse().mT
    pose = views.extrinsics[scene]
    return camera @ pose[:, :3, :3].mT + pose[:, None, :3, 3]


def _sample(
    views: Views, scene: int, choice: Int[Tensor, " v"], points: Float[Tensor, "v pixels 3"]
) -> tuple[Float[Tensor, "v 3 pixels"], Bool[Tensor, "v 1 pixels"]]:
    """Colours of points in the chosen views (the border's, outside), and where they are inside."""
    height, width = views.image.shape[-2:]
    pose, intrinsics = views.extrinsics[scene, choice], views.intrinsics[scene, choice]
    camera = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    image = camera @ intrinsics.mT
    grid = 2 * image[..., :2] / image[..., 2:].clamp(min=1e-6) - 1
    outermost_centres = 1 + 1e-4 - 1 / torch.tensor([width, height], device=grid.device)
    inside = (image[..., 2] > 1e-6) & (grid.abs() <= outermost_centres).all(dim=-1)
    sampled = F.grid_sample(
        views.image[scene, choice].float(),
        grid.unsqueeze(1),
        padding_mode="border",
        align_corners=False,
    )
    return sampled.squeeze(2), inside.unsqueeze(1)
