"""Overlap against closed forms, another way to count, and true covisibility."""

import math

import numpy as np
import pytest
import torch

from mvsplat.geometry.overlap import (
    SamplePoints,
    compare_views,
    frustum_points,
    image_cells,
    seen_by_any,
    surface_points,
    visible_points,
    weakest_link,
)


def cameras(poses, focal=(1.0, 1.0), centre=(0.5, 0.5)):
    """Extrinsics and equal normalised intrinsics of camera-to-world matrices."""
    intrinsics = torch.eye(3).repeat(len(poses), 1, 1)
    intrinsics[:, [0, 1], [0, 1]] = torch.tensor(focal)
    intrinsics[:, :2, 2] = torch.tensor(centre)
    return torch.stack([torch.as_tensor(pose, dtype=torch.float32) for pose in poses]), intrinsics


def at(x=0.0, y=0.0, z=0.0, yaw=0.0):
    """A camera at a place, turned about its vertical axis by an angle in degrees."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def compared(poses, near, far, grid=200, depths=1, **camera):
    views = cameras(poses, **camera)
    return compare_views(frustum_points(*views, near, far, grid, depths), *views)


@pytest.mark.parametrize("focal", [0.7, 1.3])
@pytest.mark.parametrize(("step", "depth"), [(0.1, 2.0), (0.5, 2.0), (0.9, 1.5), (5.0, 2.0)])
def test_parallel_cameras_at_one_depth(focal, step, depth):
    # A picture is depth / focal wide there: it moves by step * focal / depth of its width.
    truth = max(0.0, 1 - focal * step / depth)
    pairs = compared([at(), at(x=step)], depth, depth, focal=(focal, 2.0))
    assert pairs.overlap[0, 1] == pytest.approx(truth, abs=0.006)
    assert pairs.overlap[1, 0] == pytest.approx(truth, abs=0.006)
    assert pairs.baseline[0, 1] == pytest.approx(step)


def test_parallel_cameras_over_depths_even_in_their_logarithm():
    # The mean over t in [0, 1] of 1 - f b / (near ratio^t).
    near, far, step = 2.0, 8.0, 1.0
    truth = 1 - step / math.log(far / near) * (1 / near - 1 / far)
    pairs = compared([at(), at(x=step)], near, far, grid=60, depths=40)
    assert pairs.overlap[0, 1] == pytest.approx(truth, abs=0.01)
    assert pairs.mutual[1, 0] == pytest.approx(truth, abs=0.01)


def test_forward_motion_is_one_sided():
    # From z = 0, the camera at z = 1 shows the middle (5 - 1) / 5 of a plane at z = 5, squared.
    views = cameras([at(), at(z=1.0)])
    near = torch.tensor([5.0, 4.0])
    pairs = compare_views(frustum_points(*views, near, near, grid=200, depths=1), *views)
    assert pairs.overlap[0, 1] == pytest.approx(0.64, abs=0.01)
    assert pairs.overlap[1, 0] == 1
    assert pairs.mutual[1, 0] == pairs.overlap[0, 1]


def test_a_turning_camera_overlaps_by_the_angle_whatever_the_depth():
    turned = math.radians(30.0)
    pairs = compared([at(), at(yaw=30.0)], 0.1, 1000.0, grid=300, depths=3, focal=(0.5, 0.5))
    # A column at the angle a from the axis is at a - 30 degrees in the turned camera, and its
    # pixels' heights grow with the ratio of their depths, cos(a) / cos(a - 30 degrees).
    column = np.arctan(2 * ((np.arange(10_000) + 0.5) / 10_000 - 0.5))
    height = np.minimum(1, np.cos(column - turned) / np.cos(column))
    truth = np.mean(height * (np.abs(np.tan(column - turned)) <= 1))
    assert pairs.overlap[0, 1] == pytest.approx(truth, abs=0.01)
    assert pairs.angle[0, 1] == pytest.approx(0, abs=1e-3)


def test_views_back_to_back_share_nothing():
    pairs = compared([at(), at(yaw=180)], 1.0, 100.0, grid=12, depths=4)
    assert pairs.overlap.tolist() == [[1, 0], [0, 1]]
    assert pairs.angle[0, 1].isnan() and pairs.angle[0, 0] == 0


def test_the_triangulation_angle_of_two_cameras_around_a_point():
    # All rays of a very narrow camera meet at the point both look at.
    turned = 24.0
    x, z = 3 * math.sin(math.radians(turned)), 3 - 3 * math.cos(math.radians(turned))
    pairs = compared([at(), at(x, z=z, yaw=-turned)], 3.0, 3.0, grid=30, focal=(500.0, 500.0))
    assert pairs.angle[0, 1] == pytest.approx(turned, abs=0.02)


def test_small_angles_are_exact_far_from_the_origin():
    far = 1e4
    pairs = compared([at(x=far), at(x=far + 0.125)], 10.0, 10.0, grid=12, focal=(20.0, 20.0))
    assert pairs.angle[0, 1] == pytest.approx(math.degrees(math.atan(0.0125)), rel=2e-3)


def test_an_off_centre_principal_point_and_pixel_aspect():
    # The same cameras as an off-axis crop: half of the picture to the right of the axis.
    pairs = compared([at(), at(x=0.4)], 2.0, 2.0, focal=(2.0, 1.0), centre=(0.0, 0.5))
    assert pairs.overlap[0, 1] == pytest.approx(1 - 2 * 0.4 / 2, abs=0.006)


def random_views(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(count, 4, generator=generator)
    poses = [at(2 * x, y, z, 60 * yaw - 30) for x, y, z, yaw in draw.tolist()]
    return cameras(poses, focal=(0.9, 1.2), centre=(0.45, 0.55))


def plain_share(points, weight, pose, intrinsics):
    """Weight of the points in a camera's frame, one after the other, in double precision."""
    world_to_camera = np.linalg.inv(pose.double().numpy())
    total = inside = 0.0
    for point, one in zip(points.double().numpy(), weight.tolist(), strict=True):
        x, y, z = intrinsics.double().numpy() @ (world_to_camera @ [*point, 1])[:3]
        total += one
        inside += one * (z > 0 and 0 <= x / z <= 1 and 0 <= y / z <= 1)
    return inside / total


def test_all_pairs_against_counting_one_by_one():
    views = random_views(5)
    shown = frustum_points(*views, 0.5, 6.0, grid=5, depths=3)
    pairs = compare_views(shown, *views)
    for i in range(5):
        for j in range(5):
            truth = plain_share(shown.position[i], shown.weight[i], views[0][j], views[1][j])
            assert pairs.overlap[i, j] == pytest.approx(truth, abs=1e-6)


def test_many_views_are_handled_in_parts(monkeypatch):
    views = random_views(9)
    shown = frustum_points(*views, 0.5, 6.0)
    whole = compare_views(shown, *views)
    monkeypatch.setattr("mvsplat.geometry.overlap.ENTRIES_AT_A_TIME", 1)
    parts = compare_views(shown, *views)
    torch.testing.assert_close(whole.overlap, parts.overlap)
    torch.testing.assert_close(whole.angle, parts.angle, equal_nan=True)


def test_bounds_must_make_sense():
    views = random_views(2)
    for near, far in [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, math.inf), (math.nan, 1.0)]:
        with pytest.raises(ValueError, match="expected 0 < near <= far"):
            frustum_points(*views, near, far)


def test_sparse_points_count_by_the_area_of_the_picture():
    views = cameras([at(), at(x=1.0)])
    generator = torch.Generator().manual_seed(0)
    plane = torch.cat(
        [4 * torch.rand(3000, 2, generator=generator) - 2, torch.full((3000, 1), 2.0)], 1
    )
    # The second camera sees the right half of what the first sees. A dense patch of texture at
    # the left is one part of the picture among many.
    patch = torch.tensor([-0.95, 0.05, 2.0]) + 0.01 * torch.rand(3000, 3, generator=generator)
    for points, tolerance in [(plane, 0.05), (torch.cat([plane, patch]), 0.06)]:
        pairs = compare_views(visible_points(points, *views, most=6000), *views)
        assert pairs.overlap[0, 1] == pytest.approx(0.5, abs=tolerance)
    shown = visible_points(torch.tensor([[0.0, 0, -3], [math.nan, 0, 0], [0.1, 0, 3]]), *views)
    assert shown.weight.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="no points"):
        visible_points(torch.full((2, 3), math.inf), *views)


def test_cells_of_points():
    views = cameras([at()])
    points = torch.tensor([[[-0.49, -0.49, 1], [0.49, 0.49, 1], [0.0, 0.49, 1], [9.0, -9.0, 1]]])
    assert image_cells(points, *views, size=4).tolist() == [[0, 15, 14, 3]]


def test_weakest_links():
    chain = torch.tensor([[1, 0.6, 0.1], [0.6, 1, 0.4], [0.1, 0.4, 1]])
    assert weakest_link(chain) == pytest.approx(0.4)
    islands = torch.block_diag(torch.full((2, 2), 0.9), torch.full((2, 2), 0.8))
    assert weakest_link(torch.stack([islands, islands + 0.05])).tolist() == pytest.approx([0, 0.05])
    assert weakest_link(torch.tensor([[0.3]])) == 1


def wall_and_post():
    """Depth of a wall at 4, with a post at 1 that hides a stretch of it, from two places."""
    size = 400
    x = (torch.arange(size) + 0.5) / size - 0.5  # focal length 1: x = X / Z
    depths = []
    for centre in (0.0, 0.5):
        hit = (x + centre >= 0.1) & (x + centre <= 0.3)  # the post at Z = 1 spans X 0.1 to 0.3
        depths.append(torch.where(hit, 1.0, 4.0).expand(size, size))
    return torch.stack(depths), cameras([at(), at(x=0.5)])


def test_what_is_hidden_is_not_shared():
    depth, views = wall_and_post()
    # Camera 0 (at X = 0) sees the wall from X = -2 to 2 but where its own post is, x 0.1 to 0.3.
    # Camera 1 sees the wall from -1.5 to 2.5, and hides x' in [-0.4, -0.2], X in [-1.1, -0.3].
    # In camera 0: x < -0.375 is outside, x in [-0.275, -0.075] is hidden, the post is seen.
    truth = 1 - 0.125 - 0.2
    shown = surface_points(depth, *views, grid=200)
    pairs = compare_views(shown, *views, depth)
    assert pairs.overlap[0, 1] == pytest.approx(truth, abs=0.01)
    # Without exact depth of the other view nothing hides anything.
    assert compare_views(shown, *views).overlap[0, 1] == pytest.approx(0.875, abs=0.01)
    seen = seen_by_any(shown, views[0][1:], views[1][1:], depth[1:])
    assert seen[0].float().mean() == pytest.approx(truth, abs=0.01)


def test_unknown_depth_is_neither_content_nor_an_obstacle():
    depth, views = wall_and_post()
    depth = depth.clone()
    depth[0, :, :200] = 0
    depth[1] = 0
    shown = surface_points(depth, *views, grid=100)
    assert shown.weight[0].mean() == 0.5 and not shown.weight[1].any()
    pairs = compare_views(shown, *views, depth)
    assert pairs.overlap[0, 1] == 1 and pairs.overlap[1].tolist() == [0, 0]


def test_points_of_some_views():
    shown = SamplePoints(torch.rand(4, 3, 3), torch.ones(4, 3))
    assert shown[torch.tensor([2, 0])].position.shape == (2, 3, 3)
