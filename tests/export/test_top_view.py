"""The map of a scene: what is where, in which colour."""

import math

import pytest
import torch

from mvsplat.export.top_view import CONTEXT_COLOR, TARGET_COLOR, top_view
from mvsplat.types import Gaussians, Views

LENS = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])


def views_at(*centers: tuple[float, float, float], turn: float = 0.0) -> Views:
    """Cameras that look along z, turned about y by an angle."""
    c, s = math.cos(turn), math.sin(turn)
    poses = torch.eye(4).repeat(1, len(centers), 1, 1)
    poses[0, :, :3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    poses[0, :, :3, 3] = torch.tensor(centers)
    bounds = torch.ones(1, len(centers))
    image = torch.zeros(1, len(centers), 3, 8, 8)
    return Views(image, poses, LENS.expand(1, len(centers), 3, 3), bounds, 9 * bounds)


def gaussians_at(means: torch.Tensor, color: torch.Tensor) -> Gaussians:
    count = len(means)
    return Gaussians(
        means=means[None],
        scales=torch.ones(1, count, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        harmonics=((color - 0.5) * math.sqrt(4 * math.pi)).view(1, count, 3, 1),
        opacities=torch.ones(1, count),
    )


def where(picture: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
    """Mean position (x, y) in [0, 1] of the pixels of a colour."""
    found = ((picture - color.view(3, 1, 1)).abs().amax(0) < 0.03).nonzero().float()
    assert len(found), "the colour is in the picture"
    return (found.mean(0).flip(0) + 0.5) / picture.shape[-1]


def ink(code: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(code[1:]))) / 255


@pytest.mark.parametrize("turn", [0.0, 1.0])
def test_forward_is_up_and_right_is_right(turn):
    green, yellow = torch.tensor([0.1, 0.7, 0.1]), torch.tensor([0.8, 0.8, 0.1])
    local = torch.tensor([[0.0, -5.0, 4.0], [3.0, 5.0, 2.0]]).repeat_interleave(50, 0)
    context = views_at((1.0, 2.0, 3.0), turn=turn)
    means = local @ context.extrinsics[0, 0, :3, :3].mT + context.extrinsics[0, 0, :3, 3]
    colors = torch.stack([green, yellow]).repeat_interleave(50, 0)
    picture = top_view(gaussians_at(means, colors), context, size=200)
    assert picture.shape == (3, 200, 200) and (picture == 1).float().mean() > 0.8
    camera, far, right = (where(picture, c) for c in (ink(CONTEXT_COLOR), green, yellow))
    assert far[0] == pytest.approx(camera[0].item(), abs=0.05) and far[1] < camera[1] - 0.5
    assert right[0] > camera[0] + 0.4 and far[1] < right[1] < camera[1]
    # Four units forward and three to the right have one scale.
    assert (camera[1] - far[1]) / 4 == pytest.approx((right[0] - camera[0]).item() / 3, abs=0.03)


def test_targets_are_blue_and_outliers_do_not_shrink_the_map():
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1000, 3, generator=generator) * 4
    means[0] = 1e5
    means[1] = torch.nan
    gaussians = gaussians_at(means, torch.full((1000, 3), 0.4))
    context, target = views_at((0.0, 0, -1), (2.0, 0, -1)), views_at((4.0, 0, -1))
    picture = top_view(gaussians, context, target, size=160)
    assert where(picture, ink(TARGET_COLOR))[0] > 0.8 > where(picture, ink(CONTEXT_COLOR))[0]
    assert (picture - 0.4).abs().amax(0).lt(0.1).float().mean() > 0.3


def test_transparent_gaussians_leave_a_map_of_the_cameras():
    gaussians = gaussians_at(torch.rand(10, 3), torch.rand(10, 3))
    gaussians.opacities.zero_()
    picture = top_view(gaussians, views_at((0.0, 0, 0)), size=64)
    assert picture.isfinite().all() and where(picture, ink(CONTEXT_COLOR)).isfinite().all()
