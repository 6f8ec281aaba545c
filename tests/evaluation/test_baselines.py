"""Baselines on scenes whose answers are known: planes seen by simple cameras."""

import pytest
import torch

from mvsplat.evaluation.baselines import mean_color, median_plane, nearest_view, rank_context_views
from mvsplat.types import Batch, Views

SIZE = (24, 32)


def make_camera(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> torch.Tensor:
    """A camera at (x, y, 0) that looks along z, turned about the y axis."""
    angle, pose = torch.tensor(yaw), torch.eye(4)
    pose[0, 0] = pose[2, 2] = angle.cos()
    pose[0, 2], pose[2, 0] = angle.sin(), -angle.sin()
    pose[0, 3], pose[1, 3] = x, y
    return pose


def make_views(cameras: list[torch.Tensor], depth: float, principal: float = 0.5) -> Views:
    """Views of the plane z = depth, coloured by a smooth function of world x and y."""
    (height, width), v = SIZE, len(cameras)
    intrinsics = torch.tensor([[0.9, 0, principal], [0, 1.2, 0.45], [0, 0, 1]]).expand(1, v, 3, 3)
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    poses = torch.stack(cameras)
    rays = torch.einsum("vij,jk,hwk->vhwi", poses[:, :3, :3], intrinsics[0, 0].inverse(), pixels)
    points = poses[:, None, None, :3, 3] + rays * (depth / rays[..., 2:])
    color = 0.5 + 0.4 * torch.sin(torch.stack([points[..., 0], points[..., 1], points.sum(-1)], 1))
    return Views(
        image=color[None],
        extrinsics=poses[None],
        intrinsics=intrinsics,
        near=torch.full((1, v), 1.0),
        far=torch.full((1, v), 10.0),
        depth=torch.full((1, v, height, width), depth),
    )


def test_views_are_ranked_by_position_then_by_direction():
    context = make_views([make_camera(1), make_camera(-1, yaw=0.3), make_camera(0.5, y=2)], 4.0)
    target = make_views([make_camera(0.9), make_camera(0, yaw=0.2), make_camera(0)], 4.0)
    ranks = rank_context_views(Batch(context, target, ["scene"]))
    assert ranks.tolist() == [[[0, 1, 2], [1, 0, 2], [0, 1, 2]]]


def test_nearest_view_and_mean_color():
    context = make_views([make_camera(0), make_camera(1)], 4.0)
    batch = Batch(context, make_views([make_camera(0.8), make_camera(0.1)], 4.0), ["scene"])
    assert torch.equal(nearest_view(batch), context.image[:, [1, 0]])
    mean = mean_color(batch)
    assert mean.shape == batch.target.image.shape
    torch.testing.assert_close(mean[0, 1, :, 3, 5], context.image[0].mean(dim=(0, 2, 3)))


@pytest.mark.parametrize("exact", [True, False])
def test_plane_is_exact_for_a_plane(exact):
    context = make_views([make_camera(0.3), make_camera(-0.3)], 4.0, principal=0.55)
    target = make_views([make_camera(0.0, y=0.1), make_camera(0.2)], 4.0, principal=0.4)
    batch = Batch(context, target, ["scene"])
    depth = context.depth
    if not exact:
        context.depth = None
    error = (median_plane(batch, None if exact else depth) - target.image).abs()
    # Bilinear sampling of a smooth picture, away from what neither view shows.
    assert error[..., 3:-3, 6:-6].max() < 5e-3


def test_plane_is_filled_from_the_other_view():
    context = make_views([make_camera(0.9), make_camera(-1.0)], 4.0)
    target = make_views([make_camera(0.0)], 4.0)
    batch = Batch(context, target, ["scene"])
    error = (median_plane(batch) - target.image).abs()
    assert error[..., 1:-1, :].max() < 5e-3
    one = Views(**{k: getattr(context, k)[:, :1] for k in vars(context) if k != "index"})
    assert (median_plane(Batch(one, target, ["scene"])) - target.image).abs().max() > 0.1


def test_plane_needs_a_depth():
    context = make_views([make_camera(0.3)], 4.0)
    batch = Batch(context, make_views([make_camera(0)], 4.0), ["scene"])
    context.depth = torch.zeros_like(context.depth)
    with pytest.raises(ValueError, match="no exact depth"):
        median_plane(batch)
    context.depth = None
    with pytest.raises(ValueError, match="no exact depth"):
        median_plane(batch)
