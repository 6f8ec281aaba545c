"""Renders the test scenes: one picture, or a picture and the gradients of everything."""

import torch
from splatting_scenes import camera, intrinsics

from mvsplat import Gaussians, Rendering, SplattingDecoder

SHAPE = (45, 70)
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


def render(gaussians: Gaussians, near: float = 1.0, extrinsics=None, **settings) -> Rendering:
    extrinsics = camera() if extrinsics is None else extrinsics
    bound = torch.full(extrinsics.shape[:2], near)
    k = intrinsics().expand(*extrinsics.shape[:2], 3, 3)
    return SplattingDecoder(**settings)(gaussians, extrinsics, k, bound, 100 * bound, SHAPE)


def gradients(gaussians: Gaussians) -> list[torch.Tensor]:
    tensors = [getattr(gaussians, name).detach().requires_grad_() for name in FIELDS]
    pose = camera().expand(1, 2, 4, 4).contiguous().requires_grad_()
    out = render(Gaussians(*tensors), extrinsics=pose)
    (out.color.square().sum() + out.depth.sum() + out.alpha.sum()).backward()
    return [out.color.detach(), out.depth.detach(), *(t.grad for t in (*tensors, pose))]
