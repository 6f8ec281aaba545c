"""Matches of points projected by the definition of a camera: which ones cameras can show."""

import torch

from mvsplat.geometry.two_views import Matches, agreeing, depths

SIZE = torch.tensor([120.0, 90.0])
K = torch.tensor([[0.8, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])


def matches(depth: torch.Tensor, translation) -> tuple[Matches, torch.Tensor]:
    """Points at (also negative) depths of the first camera; the second is moved."""
    generator = torch.Generator().manual_seed(0)
    rays = torch.rand(len(depth), 3, generator=generator) - 0.5
    rays[:, 2] = 1
    points = rays * depth[:, None]
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor(translation)
    seen = [(p @ K.T)[:, :2] / (p @ K.T)[:, 2:] for p in (points, points + pose[:3, 3])]
    return Matches(*seen, torch.stack([K, K]), SIZE), pose


def test_points_in_front_agree_and_their_depth_is_theirs():
    depth = torch.linspace(3, 9, 20)
    for translation in ([1.0, 0.3, 0.0], [0.0, 0.1, -1.0], [0.2, 0.0, 1.0]):
        found, pose = matches(depth, translation)
        assert agreeing(found, pose, 1.0).all()
        got, parallax = depths(found, pose)
        sure = parallax > 1
        assert sure.sum() > 10
        torch.testing.assert_close(got[sure].float(), depth[sure], rtol=1e-3, atol=0)


def test_points_behind_a_camera_and_beside_the_line_do_not_agree():
    behind_both, pose = matches(torch.linspace(-6, -3, 20), [1.0, 0.5, 0.0])
    assert not agreeing(behind_both, pose, 1.0).any()
    behind_first, pose = matches(torch.linspace(-0.7, -0.3, 20), [0.5, 0.5, 1.0])
    assert not agreeing(behind_first, pose, 1.0).any()
    found, pose = matches(torch.linspace(3, 9, 20), [1.0, 0.0, 0.0])
    aside = found._replace(second=found.second + torch.tensor([0.0, 3.0]) / SIZE)
    assert not agreeing(aside, pose, 2.0).any() and agreeing(aside, pose, 4.0).all()
    turned = pose.clone()
    turned[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # looks the other way
    assert not agreeing(found, turned, 1e3).any()
