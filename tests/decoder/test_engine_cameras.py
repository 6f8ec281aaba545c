"""Cameras as engines take them: their gradient by hand against autograd."""

import torch
from splatting_scenes import camera

from mvsplat.decoder.cameras import engine_cameras, extrinsics_gradient


def test_gradient_of_the_extrinsics_is_autograds():
    lens = torch.tensor([[0.9, 0.2, 0.4], [0, 1.1, 0.6], [0, 0, 1]], dtype=torch.float64)
    pose = camera(0.4, (0.3, -0.2, 0.7))[0, 0].double().requires_grad_()
    near = torch.full((1, 1), 0.3, dtype=torch.float64)
    rows, center, _ = engine_cameras(pose[None, None], lens[None, None], near, (30, 40))
    of_rows, of_center = torch.randn(3, 4).double(), torch.randn(3).double()
    ((rows[0, 0] * of_rows).sum() + (center[0, 0] * of_center).sum()).backward()
    found = extrinsics_gradient(pose.detach(), lens, 0.3, of_rows, of_center)
    torch.testing.assert_close(found, pose.grad)
