"""Groups of views on captures of known shape."""

import math

import pytest
import torch

from mvsplat.geometry.view_groups import measure_views, neighbour_groups, neighbours


def cameras(positions, turns) -> tuple[torch.Tensor, torch.Tensor]:
    """Cameras at (x, z) that look along z, turned about the vertical by some degrees."""
    poses = torch.eye(4).repeat(len(positions), 1, 1)
    for pose, (x, z), degrees in zip(poses, positions, turns, strict=True):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = c, s, -s, c
        pose[0, 3], pose[2, 3] = x, z
    return poses, torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(len(poses), 1, 1)


ROW = cameras([(0.4 * i, 0.0) for i in range(9)], [0.0] * 9)
# Two walls back to back, photographed by turns from either side.
TWO_SIDES = cameras(
    [(0.4 * (i // 2), -4.0 if i % 2 else 4.0) for i in range(8)],
    [0.0 if i % 2 else 180.0 for i in range(8)],
)
ONE_SPOT = cameras([(0.0, 0.0)] * 5, [5.0 * i for i in range(5)])


@pytest.mark.parametrize("size", [2, 3, 4, 20])
@pytest.mark.parametrize("capture", [ROW, TWO_SIDES, ONE_SPOT], ids=["row", "sides", "spot"])
def test_every_view_is_owned_once(capture, size):
    total = len(capture[0])
    groups = neighbour_groups(measure_views(*capture, 2.0, 6.0), size)
    assert sorted(view for group in groups for view in group.owned) == list(range(total))
    for group in groups:
        assert len(set(group.members)) == len(group.members) == min(size, total)
        assert set(group.owned) <= set(group.members)
    assert math.ceil(total / size) <= len(groups) <= total


def test_partners_overlap_and_stand_apart():
    for group in neighbour_groups(measure_views(*ROW, 2.0, 6.0), 2):
        first, second = group.members
        assert 1 <= abs(first - second) <= 3  # 0.4 to 1.2 apart, at depths from 2 to 6


def test_the_nearest_camera_is_no_partner_if_it_looks_elsewhere():
    # Points on two walls, each seen from one side only; cameras of one side are 0.8 apart or more.
    y = torch.linspace(-1, 1, 20)
    wall = torch.cartesian_prod(torch.linspace(-1, 3, 40), y)
    points = torch.cat(
        [torch.cat([wall, torch.full((len(wall), 1), z)], dim=1) for z in (8.0, -8.0)]
    )
    poses, intrinsics = cameras(
        [(0.4 * i, 0.0) for i in range(8)], [180.0 * (i % 2) for i in range(8)]
    )
    pairs = measure_views(poses, intrinsics, 4.0, 10.0, points)
    for group in neighbour_groups(pairs, 2):
        assert group.members[0] % 2 == group.members[1] % 2
    for view, others in enumerate(neighbours(pairs, 8)):
        assert len(others) == 3 and {other % 2 for other in others.tolist()} == {view % 2}
