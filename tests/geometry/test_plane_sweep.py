"""Plane sweeps over painted walls, photographed by a ray caster of a few lines: exact depth."""

import math

import pytest
import torch
import torch.nn.functional as F

from mvsplat.geometry.plane_sweep import sweep_points

SIZE, FOCAL = (60, 80), 1.0
INTRINSICS = torch.tensor([[FOCAL, 0, 0.5], [0, FOCAL * 80 / 60, 0.5], [0, 0, 1]])


def paint(seed: int = 0) -> torch.Tensor:
    """A blotchy texture [256, 256] in [0, 1] with detail at several scales."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.rand(1, 1, n, n, generator=generator), (256, 256), mode="bicubic")
        for n in (16, 32, 64)
    ]
    return torch.stack(layers).mean(0)[0, 0].clamp(0, 1)


def camera(x=0.0, y=0.0, z=0.0, roll=0.0) -> torch.Tensor:
    pose = torch.eye(4)
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    pose[:2, :2] = torch.tensor([[c, -s], [s, c]])
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def photograph(pose: torch.Tensor, walls: list[tuple[float, float, float, torch.Tensor]]):
    """Walls (depth, from x, to x, texture) face the cameras; the first one in the list hides."""
    height, width = SIZE
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(INTRINSICS).mT
    rays = rays @ pose[:3, :3].mT
    picture, free = torch.full(SIZE, 0.5), torch.ones(SIZE, dtype=torch.bool)
    for depth, left, right, texture in walls:
        hit = pose[:3, 3] + rays * ((depth - pose[2, 3]) / rays[..., 2:])
        place = hit[..., :2] / depth  # the texture covers as much of the picture at every depth
        shown = F.grid_sample(texture[None, None], place[None], align_corners=False)[0, 0]
        here = free & (hit[..., 0] >= left) & (hit[..., 0] < right)
        picture = picture.where(~here, shown)
        free &= ~here
    return picture


def sweep(poses, walls):
    pictures = [photograph(pose, walls) for pose in poses]
    cameras = torch.stack(poses), INTRINSICS.expand(len(poses), 3, 3)
    return sweep_points(pictures, *cameras).positions


WALL = [(5.0, -math.inf, math.inf, paint())]


@pytest.mark.parametrize(
    "others",
    [
        [camera(x=0.7)],
        [camera(x=0.7), camera(x=-0.5)],
        [camera(x=0.5, roll=30.0)],
        [camera(z=1.5)],
        [camera(z=-1.0), camera(y=0.4, z=1.0)],
    ],
    ids=["one", "two", "rolled", "forward", "back and forth"],
)
def test_a_wall_is_where_it_is(others):
    points = sweep([camera(), *others], WALL)
    assert len(points) > 200
    assert float((points[:, 2] / 5 - 1).abs().quantile(0.95)) < 0.06


def test_points_are_in_world_space_and_scale_with_it():
    poses = [camera(), camera(x=0.7)]
    points = sweep(poses, WALL)
    turn = camera(x=3.0, y=-2.0, roll=70.0)
    turn[:3, 3] *= 100
    pictures = [photograph(pose, WALL) for pose in poses]
    for pose in poses:
        pose[:3, 3] *= 100
    elsewhere = torch.stack([turn @ pose for pose in poses])
    moved = sweep_points(pictures, elsewhere, INTRINSICS.expand(2, 3, 3)).positions
    expected = 100 * points @ turn[:3, :3].mT + turn[:3, 3]
    assert len(moved) == len(points)
    torch.testing.assert_close(moved, expected, atol=0.5, rtol=0)


def test_two_depths_are_told_apart():
    near, far = (3.0, -math.inf, 0.0, paint(1)), (9.0, -math.inf, math.inf, paint(2))
    depth = sweep([camera(), camera(x=0.6), camera(x=-0.6)], [near, far])[:, 2]
    at_near, at_far = ((depth / wall - 1).abs() < 0.12 for wall in (3, 9))
    assert at_near.sum() > 50 and at_far.sum() > 50
    assert float((at_near | at_far).float().mean()) > 0.97


def test_what_is_far_away_is_at_least_so_far():
    """A sky above near things: it gets the farthest depth that can be told from infinity."""
    near, sky = (4.0, -math.inf, 0.0, paint(1)), (1e6, -math.inf, math.inf, paint(2))
    depth = sweep([camera(), camera(x=0.5)], [near, sky])[:, 2]
    limit = FOCAL * SIZE[1] * 0.5
    assert float(depth.max()) == pytest.approx(limit) and (depth > 0.99 * limit).sum() > 50


def test_cameras_too_close_together_tell_nothing():
    assert len(sweep([camera(), camera(x=0.02)], WALL)) == 0


def test_what_has_no_texture_gives_no_points():
    assert len(sweep([camera(), camera(x=0.7)], [(5.0, -9.0, 9.0, torch.full((9, 9), 0.3))])) == 0


def test_a_pattern_that_repeats_fits_at_several_depths_and_gives_no_points():
    stripes = paint()[:16, :16].repeat(16, 16)
    wall = [(5.0, -math.inf, math.inf, stripes)]
    few, many = (sweep([camera(), camera(x=0.7)], w) for w in (wall, WALL))
    assert len(few) < 0.1 * len(many)


def test_what_moves_is_left_out_where_a_third_picture_contradicts():
    """A thing moves faster and faster: of two pictures, it seems to stand nearer than it is."""
    poses = [camera(), camera(x=0.5), camera(x=-0.5)]
    pictures = []
    for number, pose in enumerate(poses):
        moved = -0.3 * number**2
        texture = torch.roll(paint(3), round(moved / 4.0 * 128), dims=1)
        thing = (4.0, -0.8 + moved, 0.6 + moved, texture)
        pictures.append(photograph(pose, [thing, (8.0, -99.0, 99.0, paint(4))]))

    def share_on_the_wall(count: int) -> float:
        cameras = torch.stack(poses[:count]), INTRINSICS.expand(count, 3, 3)
        depth = sweep_points(pictures[:count], *cameras).positions[:, 2]
        assert len(depth) > 100
        return float(((depth / 8 - 1).abs() < 0.15).float().mean())

    assert share_on_the_wall(2) < 0.9 and share_on_the_wall(3) > 0.97


def test_pictures_of_different_sizes():
    poses = [camera(), camera(x=0.7)]
    pictures = [photograph(pose, WALL) for pose in poses]
    pictures[1] = F.interpolate(pictures[1][None, None], (45, 60), mode="area")[0, 0]
    points = sweep_points(pictures, torch.stack(poses), INTRINSICS.expand(2, 3, 3)).positions
    assert len(points) > 200 and float((points[:, 2] / 5 - 1).abs().quantile(0.9)) < 0.06
