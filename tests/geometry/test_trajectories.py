"""Camera paths against closed forms: lines, great arcs, circles."""

import math

import pytest
import torch

from mvsplat.geometry.rotations import (
    axis_angle_to_quaternion,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    slerp,
)
from mvsplat.geometry.trajectories import (
    mean_camera,
    spin,
    through_cameras,
    visiting_order,
    wobble,
)

LENS = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.45], [0.0, 0.0, 1.0]])


def about_y(degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)


def camera(rotation: torch.Tensor, *center: float) -> torch.Tensor:
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, torch.tensor(center)
    return pose


def random_cameras(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4).repeat(count, 1, 1)
    poses[:, :3, :3] = quaternion_to_matrix(axis_angle_to_quaternion(turns)).float()
    poses[:, :3, 3] = torch.randn(count, 3, generator=generator)
    return poses


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Degrees between rotation matrices."""
    trace = (a.double() @ b.double().mT).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())


def test_axis_angle_and_back():
    turns = torch.randn(200, 3, dtype=torch.float64)
    turns *= (torch.rand(200, 1) * math.pi) / turns.norm(dim=-1, keepdim=True)
    turns = torch.cat([turns, torch.zeros(1, 3).double(), torch.full((1, 3), 1e-14).double()])
    found = axis_angle_to_quaternion(turns)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(202).double())
    torch.testing.assert_close(quaternion_to_axis_angle(found), turns)
    torch.testing.assert_close(quaternion_to_axis_angle(-found), turns, msg="q and -q are the same")
    # The exponential of the cross-product matrix is the rotation.
    x, y, z = turns.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    torch.testing.assert_close(quaternion_to_matrix(found), torch.linalg.matrix_exp(cross))


def test_slerp_is_the_closed_form():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.nn.functional.normalize(
        torch.randn(2, 50, 4, generator=generator, dtype=torch.float64), dim=-1
    )
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    share = torch.rand(50, 1, generator=generator, dtype=torch.float64)
    angle = (a * b).sum(-1, keepdim=True).acos()
    expected = ((1 - share) * angle).sin() * a + (share * angle).sin() * b
    torch.testing.assert_close(slerp(a, b, share), expected / angle.sin())
    torch.testing.assert_close(
        quaternion_to_matrix(slerp(a, -b, share)), quaternion_to_matrix(expected / angle.sin())
    )


def test_between_two_cameras_it_is_a_line_and_a_great_arc():
    start, end = camera(about_y(0), 0.0, 0.0, 0.0), camera(about_y(80), 4.0, 2.0, -1.0)
    wider = LENS * torch.tensor([[0.5], [0.5], [1.0]])
    path = through_cameras(torch.stack([start, end]), torch.stack([LENS, wider]), 9)
    assert len(path) == 9
    share = torch.linspace(0, 1, 9)
    torch.testing.assert_close(path.extrinsics[:, :3, 3], share[:, None] * end[:3, 3])
    expected = torch.stack([about_y(10.0 * step) for step in range(9)]).float()
    torch.testing.assert_close(path.extrinsics[:, :3, :3], expected)
    torch.testing.assert_close(path.extrinsics[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(9, 4))
    torch.testing.assert_close(path.intrinsics[:, 0, 0], 0.9 - 0.45 * share)
    torch.testing.assert_close(path.intrinsics[:, 2], torch.tensor([0.0, 0, 1]).expand(9, 3))


def test_an_eased_path_starts_and_ends_slowly():
    cameras = torch.stack([camera(about_y(0), 0.0, 0, 0), camera(about_y(0), 1.0, 0, 0)])
    x = through_cameras(cameras, LENS.expand(2, 3, 3), 101, ease=True).extrinsics[:, 0, 3]
    t = torch.linspace(0, 1, 101)
    torch.testing.assert_close(x, 3 * t**2 - 2 * t**3)


@pytest.mark.parametrize("seed", range(3))
def test_a_path_passes_through_every_camera_without_a_kink(seed):
    cameras = random_cameras(5, seed)
    path = through_cameras(cameras, LENS.expand(5, 3, 3), 20_001)
    torch.testing.assert_close(path.extrinsics[[0, -1]], cameras[[0, -1]], atol=1e-5, rtol=0)
    centers, rotations = path.extrinsics[:, :3, 3], path.extrinsics[:, :3, :3]
    for pose in cameras:
        nearest = (centers - pose[:3, 3]).norm(dim=-1).argmin()
        assert (centers[nearest] - pose[:3, 3]).norm() < 1e-3
        assert angle_between(rotations[nearest], pose[:3, :3]) < 0.1
    # Steps change by little from one to the next: also at the cameras, velocity is continuous.
    steps = path.extrinsics.double().diff(dim=0)[:, :3]
    assert steps.diff(dim=0).norm(dim=(1, 2)).max() < 0.01 * steps.norm(dim=(1, 2)).max()
    # Bezier curves do not leave their cameras far behind.
    assert (centers - centers.mean(0)).norm(dim=-1).max() < 3 * cameras[:, :3, 3].norm(dim=-1).max()


def test_equal_steps_of_equal_cameras_stay_equal():
    cameras = torch.stack([camera(about_y(10.0 * i), 0.5 * i, 0, 0) for i in range(4)])
    path = through_cameras(cameras, LENS.expand(4, 3, 3), 31)
    torch.testing.assert_close(path.extrinsics[:, 0, 3], torch.linspace(0, 1.5, 31))
    found = angle_between(path.extrinsics[:, :3, :3], torch.eye(3).expand(31, 3, 3))
    torch.testing.assert_close(found, torch.linspace(0, 30, 31).double(), atol=0.05, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_cameras_in_one_place_give_a_path_that_stays_there(count):
    pose = random_cameras(1)
    path = through_cameras(pose.expand(count, 4, 4), LENS.expand(count, 3, 3), 7)
    torch.testing.assert_close(path.extrinsics, pose.expand(7, 4, 4))
    torch.testing.assert_close(path.intrinsics, LENS.expand(7, 3, 3))


def test_impossible_paths_are_refused():
    with pytest.raises(ValueError, match="at least one camera"):
        through_cameras(torch.zeros(0, 4, 4), torch.zeros(0, 3, 3), 5)
    with pytest.raises(ValueError, match="0 frames"):
        through_cameras(random_cameras(2), LENS.expand(2, 3, 3), 0)


def test_there_and_back_shows_no_frame_twice():
    path = through_cameras(random_cameras(2), LENS.expand(2, 3, 3), 5).there_and_back()
    assert len(path) == 8
    torch.testing.assert_close(path.extrinsics[5:], path.extrinsics[[3, 2, 1]])


def test_wobble_is_a_circle_in_the_image_plane():
    pose = random_cameras(1)[0]
    path = wobble(pose, LENS, 12, radius=0.3)
    local = (path.extrinsics[:, :3, 3] - pose[:3, 3]) @ pose[:3, :3]
    angle = torch.arange(12) * math.tau / 12
    expected = 0.3 * torch.stack([angle.cos(), angle.sin(), torch.zeros(12)], -1)
    torch.testing.assert_close(local, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(path.extrinsics[:, :3, :3], pose[:3, :3].expand(12, 3, 3))


def test_a_wobble_with_a_focus_keeps_it_in_the_centre():
    pose = random_cameras(1)[0]
    path = wobble(pose, LENS, 12, radius=0.3, focus=2.0)
    focus = pose[:3, 3] + 2 * pose[:3, 2]
    local = torch.einsum(
        "nji,nj->ni", path.extrinsics[:, :3, :3], focus - path.extrinsics[:, :3, 3]
    )
    expected = torch.tensor([0.0, 0.0, math.hypot(2, 0.3)]).expand(12, 3)
    torch.testing.assert_close(local, expected, atol=1e-5, rtol=1e-5)
    # It turns no farther than it must.
    turned = angle_between(path.extrinsics[:, :3, :3], pose[:3, :3].expand(12, 3, 3))
    must = torch.full((12,), math.degrees(math.atan2(0.3, 2))).double()
    torch.testing.assert_close(turned, must, atol=0.02, rtol=0)


@pytest.mark.parametrize("degrees", [360.0, 90.0, -45.0])
def test_spin_carries_the_camera_rigidly_around_the_pivot(degrees):
    pose, pivot = random_cameras(1, 3)[0], torch.tensor([1.0, -2.0, 0.5])
    path = spin(pose, LENS, 9, pivot, degrees=degrees)
    local = torch.einsum(
        "nji,nj->ni", path.extrinsics[:, :3, :3], pivot - path.extrinsics[:, :3, 3]
    )
    torch.testing.assert_close(local, local[:1].expand(9, 3), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.extrinsics[0], pose)
    step = degrees / (9 if degrees == 360 else 8)
    found = angle_between(path.extrinsics[1:, :3, :3], path.extrinsics[:-1, :3, :3])
    torch.testing.assert_close(found, torch.full((8,), abs(step)).double(), atol=0.05, rtol=0)


def test_spin_turns_counter_clockwise_from_above():
    # World z up; the camera south of the pivot, looking north, goes east first.
    pose = camera(torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), 0.0, -2.0, 0.0)
    path = spin(pose, LENS, 4, torch.zeros(3), up=torch.tensor([0.0, 0, 5]))
    expected = torch.tensor([[0.0, -2, 0], [2, 0, 0], [0, 2, 0], [-2, 0, 0]])
    torch.testing.assert_close(path.extrinsics[:, :3, 3], expected, atol=1e-6, rtol=0)


def test_the_mean_camera():
    cameras = torch.stack([camera(about_y(d), d, 1.0, 0.0) for d in (-20.0, 0.0, 50.0)])
    mean = mean_camera(cameras)
    torch.testing.assert_close(mean[:3, 3], torch.tensor([10.0, 1.0, 0.0]))
    # About one axis the chordal mean is the direction of the sum of unit vectors.
    x = sum(math.cos(math.radians(d)) for d in (-20, 0, 50))
    y = sum(math.sin(math.radians(d)) for d in (-20, 0, 50))
    torch.testing.assert_close(mean[:3, :3].double(), about_y(math.degrees(math.atan2(y, x))))


def test_cameras_on_a_line_are_visited_along_it():
    order = [3, 0, 4, 1, 5, 2]
    poses = torch.stack([camera(about_y(0), float(place), 0, 0) for place in order])
    found = [order[i] for i in visiting_order(poses)]
    assert found in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])
    assert visiting_order(poses[:1]) == [0]


def test_a_ring_of_cameras_is_visited_around():
    angles = torch.tensor([0, 5, 2, 7, 4, 1, 6, 3]) * math.tau / 8
    poses = torch.stack([camera(about_y(0), math.cos(a), 0.0, math.sin(a)) for a in angles])
    centers = poses[visiting_order(poses), :3, 3]
    side = 2 * math.sin(math.pi / 8)
    torch.testing.assert_close(centers.diff(dim=0).norm(dim=-1), torch.full((7,), side))
