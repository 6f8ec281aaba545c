"""The cost volume against warping every candidate's features, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from views import random_views

from mvsplat.encoder.cpu import correlation
from mvsplat.encoder.networks.cost_volume import CostVolume
from mvsplat.encoder.networks.depth import disparity_candidates
from mvsplat.encoder.networks.neighbours import neighbours


def warped(features, views, disparities, matched=None):
    """The definition: features warped plane by plane with pinhole cameras, then correlated.

    ``matched[s][i]`` are the views that view i of scene s is matched with; None for all others.
    """
    scenes, count = views.near.shape
    channels, height, width = features.shape[1:]
    features = features.unflatten(0, (scenes, count))
    scale = torch.tensor([[width], [height], [1.0]], dtype=features.dtype)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(features)
    volume = features.new_zeros(scenes, count, disparities.shape[1], height, width)
    for s in range(scenes):
        for i in range(count):
            others = set(range(count)) - {i} if matched is None else matched[s][i]
            for j in others:
                for d, disparity in enumerate(disparities[s * count + i]):
                    k_i, k_j = (views.intrinsics[s, v].to(features) * scale for v in (i, j))
                    local = pixels @ k_i.inverse().mT / disparity[..., None]
                    pose = views.extrinsics[s, j].to(features).inverse() @ views.extrinsics[
                        s, i
                    ].to(features)
                    point = (local @ pose[:3, :3].mT + pose[:3, 3]) @ k_j.mT
                    xy = point[..., :2] / point[..., 2:].clamp(min=1e-3)
                    grid = 2 * xy / torch.tensor([width - 1.0, height - 1.0]).to(xy) - 1
                    sampled = F.grid_sample(features[s, j][None], grid[None], align_corners=True)[0]
                    volume[s, i, d] += (
                        (sampled * features[s, i]).sum(0) / channels**0.5 / len(others)
                    )
    return volume.flatten(0, 1)


@pytest.mark.parametrize("chunk", [1, 100, 1 << 24])
@pytest.mark.parametrize("count", [2, 3])
def test_equals_warping_then_correlating(count, chunk, monkeypatch):
    monkeypatch.setattr(correlation, "CHUNK_ELEMENTS", chunk)
    views = random_views(2, count, height=24, width=32)
    features = torch.randn(2 * count, 5, 6, 8, requires_grad=True)
    disparities = disparity_candidates(views.near.flatten(), views.far.flatten(), 4)
    ours = CostVolume()(features, views, disparities)
    truth = warped(features, views, disparities)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(truth)
    gradients = [torch.autograd.grad((x * weight).sum(), features)[0] for x in (ours, truth)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_points_anywhere_even_far_outside(rows, monkeypatch):
    """What is multiplied is only the box around a chunk's points."""
    monkeypatch.setattr(correlation, "CHUNK_ROWS", rows)
    reference, other = torch.randn(2, 54, 5), torch.randn(2, 6, 9, 5)
    near = torch.linspace(-1.6, 1.6, 54)[:, None, None] + 0.2 * torch.randn(2, 54, 4, 2)
    near[0, 3, 1], near[1, 20, 0], near[1, 50:] = 1e6, -1e6, 7.0
    inputs = [x.requires_grad_() for x in (reference, other)]
    found = correlation.correlate_at_points(*inputs, near)
    maps = other.double().permute(0, 3, 1, 2)
    sampled = F.grid_sample(maps, near.double(), align_corners=True)
    truth = (sampled * reference.double().mT[..., None]).sum(1)
    torch.testing.assert_close(found, truth.float(), rtol=1e-4, atol=1e-4)
    weight = torch.randn(2, 54, 4)
    for ours, exact in zip(
        *(torch.autograd.grad((x * weight).sum(), inputs) for x in (found, truth))
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


def test_cameras_side_by_side_multiply_a_few_rows():
    views = random_views(1, 2, height=128, width=128)
    depths = 1 / disparity_candidates(views.near.flatten(), views.far.flatten(), 8)[:, None]
    scene, other = torch.zeros(1, 1, dtype=torch.long), torch.tensor([[1, 0]])
    grid = CostVolume._grid(views, depths, (scene, other), 32, 32)
    maps = torch.randn(2, 32, 32, 3)
    found = correlation.pieces(maps.flatten(1, 2), maps, grid)
    covered = [part for piece in found for part in range(1024)[piece.rows]]
    assert sorted(covered) == sorted([*range(1024)] * 2)
    rows = correlation.CHUNK_ROWS
    assert all(len(range(32)[piece.box[0]]) <= rows + 4 for piece in found)


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 21])
@pytest.mark.parametrize("nearest", [None, 2])
def test_candidates_of_each_pixel(nearest, chunk, monkeypatch):
    monkeypatch.setattr(correlation, "SAMPLED_ELEMENTS", chunk)
    views = random_views(2, 4, height=24, width=32)
    # In the second scene, the cameras stand in another order.
    views.extrinsics[1, :, 0, 3] = torch.tensor([0.0, 1.0, 0.3, 5.0])
    features = torch.randn(8, 5, 6, 8, requires_grad=True)
    disparities = 0.05 + torch.rand(8, 3, 6, 8)
    ours = CostVolume(nearest)(features, views, disparities)
    nearest_of_each = [
        [[1, 2], [0, 2], [1, 3], [2, 1]],
        [[2, 1], [2, 0], [0, 1], [1, 2]],
    ]
    truth = warped(features, views, disparities, None if nearest is None else nearest_of_each)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(truth)
    gradients = [torch.autograd.grad((x * weight).sum(), features)[0] for x in (ours, truth)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_neighbours_are_the_nearest_cameras_nearest_first():
    for count in (2, 3):
        assert neighbours(random_views(1, count), 1).shape == (1, count, count - 1)
    views = random_views(2, 6)
    views.extrinsics[..., :3, 3] = torch.randn(2, 6, 3)
    # Two in one place: neither is taken for itself.
    views.extrinsics[0, 4, :3, 3] = views.extrinsics[0, 1, :3, 3]
    for nearest in (1, 3, 5, 9):
        found = neighbours(views, nearest)
        for s in range(2):
            center = views.extrinsics[s, :, :3, 3]
            for i in range(6):
                others = [j for j in range(6) if j != i]
                others.sort(key=lambda j: float((center[j] - center[i]).norm()))
                assert found[s, i].tolist() == others[:nearest]
    ascending = neighbours(views, None)
    assert ascending.shape == (1, 6, 5) and ascending[0, 2].tolist() == [0, 1, 3, 4, 5]


def test_the_right_plane_matches_best():
    # One camera looks at a textured plane at depth 4; the other stands one feature pixel aside.
    views = random_views(1, 2, height=64, width=64)
    views.intrinsics[:] = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    views.extrinsics[0, 1, 0, 3] = 4 / 16
    texture = torch.randn(1, 32, 16, 17)
    features = torch.cat([texture[..., :16], texture[..., 1:]])
    disparities = torch.linspace(0.05, 0.65, 13).expand(2, 13)
    volume = CostVolume()(features, views, disparities)
    best = volume[0, :, :, 2:14].mean(dim=(1, 2)).argmax()
    assert disparities[0, best] == pytest.approx(0.25)


def test_keeps_features_and_coordinates_only():
    views = random_views(1, 2, height=128, width=128)
    features = torch.randn(2, 64, 32, 32, requires_grad=True)
    disparities = disparity_candidates(views.near.flatten(), views.far.flatten(), 64)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x.numel()) or x, lambda x: x
    ):
        CostVolume()(features, views, disparities)
    # A pixel: both views' features and 2 coordinates a candidate, not features times candidates.
    assert sum(saved) < 1.01 * 2 * (32 * 32) * (2 * 64 + 2 * 64)
