"""Gaussians for larger pictures, and scenes brought to a model's scale and back."""

import pytest
import torch

from mvsplat import Gaussians, SplattingDecoder, Views
from mvsplat.decoder.widening import pixel_size, widened
from mvsplat.reconstruction.scaling import scaling_to
from mvsplat.types import DepthEstimate

NEAR = torch.ones(1, 1)


def wall(side=16, depth=3.0):
    """A grid of thin Gaussians, one a pixel, before a camera with 90 degrees of view."""
    centers = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    means = depth * torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3)
    count = means.shape[1]
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=means,
        scales=torch.full((1, count, 3), 0.1 * depth / side),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        harmonics=0.5 * torch.randn(1, count, 3, 1, generator=generator),
        opacities=torch.full((1, count), 0.9),
    )


def view(side=16):
    lens = torch.tensor([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])[None, None]
    image = torch.zeros(1, 1, 3, side, side)
    return Views(image, torch.eye(4)[None, None], lens, NEAR, 10 * NEAR)


def draw(gaussians, side):
    views = view()
    size = (side, side)
    return SplattingDecoder()(gaussians, views.extrinsics, views.intrinsics, NEAR, NEAR, size)


def test_a_pixels_size_where_the_gaussians_are():
    torch.testing.assert_close(
        pixel_size(wall(depth=4.0).means[0], view()), torch.full((256,), 4.0 / 8)
    )


def test_the_finest_view_counts_and_points_behind_all_views_get_none():
    views = view()
    closer = torch.eye(4)
    closer[2, 3] = 2.0
    views.extrinsics = torch.stack([torch.eye(4), closer])[None]
    views.intrinsics = views.intrinsics.expand(1, 2, 3, 3)
    points = torch.tensor([[0.0, 0, 3], [0, 0, -1]])
    torch.testing.assert_close(pixel_size(points, views), torch.tensor([1 / 8, 0.0]))


def test_large_pictures_look_like_the_models_own_without_gaps():
    gaussians = wall()
    own = draw(gaussians, 16)
    gaps = draw(gaussians, 128).alpha[..., 16:-16, 16:-16]
    filled = draw(widened(gaussians, view(), 8), 128)
    assert gaps.min() < 0.05
    assert filled.alpha[..., 16:-16, 16:-16].min() > 0.7 * own.alpha.min()
    # The large picture's pixels at the small one's pixel centres are the small one.
    centres = filled.color[..., 3::8, 3::8] + filled.color[..., 4::8, 4::8]
    error = (centres / 2 - own.color)[..., 2:-2, 2:-2].abs()
    assert error.mean() < 0.02


def test_the_models_own_size_changes_nothing():
    gaussians = wall()
    assert widened(gaussians, view(), 1) is gaussians
    assert widened(gaussians, view(), 0.5) is gaussians


def test_scaling_is_undone():
    torch.manual_seed(0)
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, :3, 3] = torch.randn(3, 3) + 100
    scaling = scaling_to(5.0, 1.0, poses)
    assert scaling.factor == pytest.approx(0.2)
    moved = scaling.cameras(poses)
    torch.testing.assert_close(moved[:, :3, 3].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, :3, :3], poses[:, :3, :3])
    distances = torch.pdist(poses[:, :3, 3])
    torch.testing.assert_close(torch.pdist(moved[:, :3, 3]), 0.2 * distances, atol=1e-4, rtol=0)

    gaussians = wall()
    gaussians.estimate = DepthEstimate(
        torch.full((1, 1, 2, 2), 2.0), torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 1, 1),
        torch.tensor([[[0.1, 0.5, 1.0]]]),
    )  # fmt: skip
    back = scaling.undo(gaussians)
    mean = poses[:, :3, 3].mean(0)
    torch.testing.assert_close(back.means, gaussians.means * 5 + mean)
    torch.testing.assert_close(back.scales, gaussians.scales * 5)
    assert back.estimate.depth.unique() == 10
    torch.testing.assert_close(back.estimate.disparities, torch.tensor([[[0.02, 0.1, 0.2]]]))
    # What a camera sees does not change.
    camera = poses[:1].clone()
    camera[0, :3, 3] = mean
    lens = view().intrinsics
    seen = SplattingDecoder()(back, camera[None], lens, 5 * NEAR, NEAR, (16, 16))
    torch.testing.assert_close(seen.color, draw(gaussians, 16).color, atol=1e-3, rtol=0)
