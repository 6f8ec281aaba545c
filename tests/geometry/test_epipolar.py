"""Epipolar segments against points that are projected one by one."""

import torch

from mvsplat.geometry.epipolar import distance_to_meeting, epipolar_segments, world_rays
from mvsplat.geometry.projection import camera_rays, invert_rigid


def cameras(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    skew = 0.3 * torch.randn(count, 3, 3, generator=generator)
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    extrinsics[:, :3, :3] = torch.linalg.matrix_exp(skew - skew.mT)
    extrinsics[:, :3, 3] = torch.randn(count, 3, generator=generator)
    intrinsics = torch.tensor([[0.8, 0, 0.45], [0, 1.0, 0.55], [0, 0, 1]]).repeat(count, 1, 1)
    return extrinsics, intrinsics


def test_segments_cover_what_the_frame_shows_of_the_ray():
    extrinsics, intrinsics = cameras(20)
    others = (extrinsics.roll(1, 0), intrinsics)
    points = torch.rand(20, 30, 2)
    near, far = torch.full((20,), 1.0), torch.full((20,), 50.0)
    origins, directions = world_rays(points, extrinsics, intrinsics)
    start, end, seen = epipolar_segments(origins, directions, *others, near, far)
    assert 0.2 < seen.float().mean() < 1
    assert ((start[seen] > -1e-4) & (start[seen] < 1 + 1e-4)).all()
    assert (start[~seen] == 0).all() and (end[~seen] == 0).all()

    # Many points of the ray: those in front and inside the frame lie on the segment.
    distance = torch.logspace(0, 1.69, 200)
    world = origins[:, :, None] + distance[:, None] * directions[:, :, None]
    to_camera = invert_rigid(others[0])[:, None, None]
    local = (to_camera[..., :3, :3] @ world[..., None] + to_camera[..., :3, 3:]).squeeze(-1)
    image = local @ intrinsics[:, None].mT
    xy = image[..., :2] / image[..., 2:]
    visible = (image[..., 2] > 0) & ((xy >= 0) & (xy <= 1)).all(-1)
    assert seen[visible.any(-1)].all()
    along = end - start
    length = along.norm(dim=-1).clamp_min(1e-6)
    relative = xy - start[:, :, None]
    position = (relative * along[:, :, None]).sum(-1) / length[..., None]
    across = (
        relative[..., 0] * along[:, :, None, 1] - relative[..., 1] * along[:, :, None, 0]
    ).abs()
    assert (across / length[..., None])[visible].max() < 1e-2
    assert position[visible].min() > -1e-3
    assert (position - length[..., None])[visible].max() < 1e-3


def test_rays_meet_where_they_were_aimed():
    extrinsics, intrinsics = cameras(2)
    target = torch.tensor([0.3, -0.2, 6.0])
    origins = extrinsics[:, :3, 3]
    directions = torch.nn.functional.normalize(target - origins, dim=-1)
    distance = distance_to_meeting(origins[0], directions[0], origins[1], directions[1])
    torch.testing.assert_close(distance, (target - origins[0]).norm())


def test_parallel_rays_meet_at_infinity():
    direction = torch.tensor([0.0, 0, 1])
    assert distance_to_meeting(torch.zeros(3), direction, torch.ones(3), direction).isinf()


def test_camera_rays_have_unit_depth_and_hit_their_pixel():
    _, intrinsics = cameras(3)
    points = torch.rand(3, 10, 2)
    rays = camera_rays(points, intrinsics)
    assert torch.equal(rays[..., 2], torch.ones(3, 10))
    torch.testing.assert_close((rays @ intrinsics.mT)[..., :2], points)
