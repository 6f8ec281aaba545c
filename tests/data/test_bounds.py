"""Depth bounds from points and cameras, against closed forms and exact depth."""

import math

import numpy as np
import pytest
import torch

from mvsplat.data import Scene
from mvsplat.data.bounds import (
    UnknownBounds,
    bounds_from_cameras,
    bounds_from_points,
    find_bounds,
    share_at_bounds,
    spread_cameras,
)


class Cameras(Scene):
    """A scene without pictures."""

    key = "walk"

    def __init__(self, extrinsics, focal=1.0, points=None, near=None, far=None):
        self.extrinsics = extrinsics
        self.intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]).repeat(
            len(extrinsics), 1, 1
        )
        self.points, self.near, self.far = points, near, far

    def image(self, index):
        raise AssertionError("bounds need no pictures")


def along_x(count: int, step: float) -> torch.Tensor:
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    extrinsics[:, 0, 3] = step * torch.arange(count)
    return extrinsics


def around(count: int, radius: float) -> torch.Tensor:
    """Cameras on a circle that look at its centre."""
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    for number in range(count):
        angle = 2 * math.pi * number / count
        x, z = math.cos(angle), math.sin(angle)
        extrinsics[number, :3, :3] = torch.tensor([[-z, 0, -x], [0, 1, 0], [x, 0, -z]])
        extrinsics[number, :3, 3] = radius * torch.tensor([x, 0, z])
    return extrinsics


def test_points_in_view_give_their_robust_percentiles():
    # Depths 10 to 20, evenly; points behind, beside and a few far outliers do not count.
    depth = torch.linspace(10, 20, 2001)
    points = torch.stack([torch.zeros(2001), torch.zeros(2001), depth], -1)
    other = torch.tensor(
        [[0, 0, -5.0], [100, 0, 1], [0, 0, 1e6], [float("nan"), 0, 0], [0, 0, 0.01]]
    )
    scene = Cameras(along_x(3, 0.1), points=torch.cat([points, other]))
    near, far = bounds_from_points(scene.points, scene.extrinsics, scene.intrinsics)
    assert near == pytest.approx(0.8 * 10.1, rel=0.01) and far == pytest.approx(
        1.5 * 19.9, rel=0.01
    )
    assert find_bounds(scene) == (near, far, "sparse points")


def test_too_few_points_are_no_guide():
    scene = Cameras(along_x(3, 0.1), points=torch.tensor([[0, 0, 5.0]]).repeat(5, 1))
    assert bounds_from_points(scene.points, scene.extrinsics, scene.intrinsics) is None
    assert find_bounds(scene).origin == "cameras"


def test_parallel_cameras_by_their_overlap():
    """Neighbours a step b apart with focal length f share 1 - f b / z of a plane at depth z."""
    for step, focal in ((0.5, 1.0), (2.0, 1.5)):
        scene = Cameras(along_x(6, step), focal)
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
        assert near == pytest.approx(1.5 * focal * step, rel=0.2)
        assert far == pytest.approx(100 * near)


def test_bounds_scale_with_the_scene():
    cameras = along_x(6, 0.5)
    larger = cameras.clone()
    larger[:, :3, 3] *= 1000
    one, other = (bounds_from_cameras(c, Cameras(c).intrinsics) for c in (cameras, larger))
    assert other == pytest.approx([1000 * bound for bound in one])


def test_a_videos_many_frames_count_like_its_few_key_frames():
    few, many = (
        bounds_from_cameras(c, Cameras(c).intrinsics)[0]
        for c in (along_x(11, 0.2), along_x(401, 0.005))
    )
    assert many == pytest.approx(few, rel=0.35)


def test_cameras_around_an_object_enclose_it():
    near, far = bounds_from_cameras(c := around(12, 4.0), Cameras(c, 1.2).intrinsics)
    assert near < 3 and 5 < far  # the object may be a unit large


def test_what_nothing_tells():
    turning = torch.eye(4).repeat(3, 1, 1)
    with pytest.raises(
        UnknownBounds, match="'walk' has no depth bounds, and its cameras all stand"
    ):
        find_bounds(Cameras(turning))
    away = torch.eye(4).repeat(2, 1, 1)
    away[1, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1]))
    away[1, 2, 3] = -1
    with pytest.raises(UnknownBounds, match="do not see each other's picture"):
        find_bounds(Cameras(away))
    assert find_bounds(Cameras(turning), 1.0, 5.0) == (1.0, 5.0, "given")


def test_given_bounds_come_before_the_datas_before_estimates():
    scene = Cameras(along_x(3, 0.1), near=2.0, far=8.0)
    assert find_bounds(scene) == (2.0, 8.0, "the data")
    assert find_bounds(scene, near=1.0)[:2] == (1.0, 8.0)
    with pytest.raises(ValueError, match="near is 9.0 and far is 8.0 in 'walk'"):
        find_bounds(scene, near=9.0)


def test_generated_rooms_lie_between_the_estimates():
    from mvsplat.data.chunks import ChunkScene
    from mvsplat.data.synthesis.filming import film_scenes
    from mvsplat.data.synthesis.recipe import Recipe

    recipe = Recipe(5, 32, 32, 0.9, (50.0, 65.0), 18.0, 14.0, 0)
    for entry in film_scenes(recipe, "test", 2):
        scene = ChunkScene(entry, "generated")
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
        depth = np.stack([scene.depth(frame) for frame in range(len(scene))])
        assert near < np.percentile(depth, 1) and np.percentile(depth, 99) < far


def test_spread_cameras():
    centres = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [10, 0, 0], [5, 0, 0], [10, 0, 0]])
    assert spread_cameras(centres, 3) == [0, 2, 3]
    assert spread_cameras(centres, 9) == [0, 1, 2, 3]
    assert spread_cameras(torch.zeros(4, 3), 9) == [0]


def test_share_at_bounds():
    disparity = torch.linspace(1 / 100, 1, 10_001)
    near_share, far_share = share_at_bounds(1 / disparity, torch.tensor(1.0), torch.tensor(100.0))
    assert near_share == pytest.approx(0.02, abs=1e-3) and far_share == pytest.approx(
        0.02, abs=1e-3
    )
