"""Scenes that a rasterizer finds awkward, and the reference's answer for them."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mvsplat.decoder import reference
from mvsplat.types import Gaussians


def random_gaussians(
    number: int, seed: int = 0, degree: int = 2, scale: float = 0.1, depth: tuple = (1.0, 4.0)
) -> Gaussians:
    """Gaussians in front of a camera at the origin that looks along z with a 90 degree view."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    z = depth[0] + (depth[1] - depth[0]) * uniform(number, 1)
    means = torch.cat([(2 * uniform(number, 2) - 1) * 1.2 * z, z], dim=-1)
    return Gaussians(
        means=means[None],
        scales=(scale * torch.exp(2 * uniform(number, 3) - 1.5))[None],
        rotations=normalize(uniform(1, number, 4) - 0.5, dim=-1),
        harmonics=0.6 * (uniform(1, number, 3, (degree + 1) ** 2) - 0.5),
        opacities=uniform(1, number),
    )


def camera(yaw: float = 0.1, offset: tuple = (0.05, -0.1, 0.0)) -> Tensor:
    """A camera-to-world matrix [1, 1, 4, 4], turned about y."""
    yaw_ = torch.tensor(yaw)
    pose = torch.eye(4)
    pose[0, 0] = pose[2, 2] = yaw_.cos()
    pose[0, 2], pose[2, 0] = yaw_.sin(), -yaw_.sin()
    pose[:3, 3] = torch.tensor(offset)
    return pose[None, None]


def intrinsics(fx: float = 0.5, fy: float = 0.55, cx: float = 0.45, cy: float = 0.6) -> Tensor:
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])[None, None]


def render_reference(
    gaussians: Gaussians,
    extrinsics: Tensor,
    normalised: Tensor,
    shape: tuple[int, int],
    degree: int = 2,
    antialiased: bool = False,
    background: tuple = (0.0, 0.0, 0.0),
    near: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, accumulated depth and transmittance [b, v, ...] of the dense renderer, in float64."""
    height, width = shape
    fields = [
        t.double()
        for t in (gaussians.means, gaussians.scales, gaussians.rotations, gaussians.harmonics)
    ] + [gaussians.opacities.double()]
    cameras = torch.linalg.inv(extrinsics.double())[..., :3, :] / near
    k = normalised.double()
    lenses = torch.stack(
        [k[..., 0, 0] * width, k[..., 1, 1] * height, k[..., 0, 2] * width, k[..., 1, 2] * height],
        dim=-1,
    )
    scenes = []
    for b in range(extrinsics.shape[0]):
        views = [
            reference.splat(
                *(field[b] for field in fields), cameras[b, v], extrinsics[b, v, :3, 3].double(),
                lenses[b, v], list(background), height, width, degree, antialiased,
            )
            for v in range(extrinsics.shape[1])
        ]  # fmt: skip
        scenes.append([torch.stack(parts) for parts in zip(*views)])
    color, depth, transmittance = (torch.stack(parts) for parts in zip(*scenes))
    return color, depth * near, transmittance
