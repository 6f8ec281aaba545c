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


def awkward_scenes() -> dict[str, Gaussians]:
    """What rasterizers get wrong, by name; for a camera near the origin that looks along z."""
    scenes = {
        "small": random_gaussians(200, 0, scale=0.02),
        "medium": random_gaussians(200, 1, scale=0.1),
        "large": random_gaussians(100, 2, scale=0.5),
        "behind and across the camera": random_gaussians(150, 3, scale=0.3, depth=(-1.5, 1.5)),
        "sub-pixel": random_gaussians(300, 4, scale=0.0005),
        "one": random_gaussians(1, 5, scale=0.2),
        "none": random_gaussians(0, 6),
        "more than a tile's radix sort": random_gaussians(600, 7, scale=0.05),
    }

    outside = random_gaussians(60, 8, scale=0.4)
    outside.means[..., 0] *= 6
    scenes["far outside, reaching in"] = outside
    huge = random_gaussians(20, 9, scale=8.0)
    scenes["huge"] = huge
    needles = random_gaussians(80, 10, scale=0.8)
    needles.scales = needles.scales * torch.tensor([1.0, 0.002, 0.002])
    scenes["needles"] = needles
    ties = random_gaussians(120, 11, scale=0.2, degree=0)
    ties.means[..., 2] = torch.where(torch.arange(120) % 2 == 0, 2.0, 3.0)
    scenes["ties in depth"] = ties
    extreme = random_gaussians(120, 12, scale=0.15)
    extreme.opacities = (torch.arange(120) % 3).float()[None] / 2
    scenes["opacities 0, 1/2 and 1"] = extreme
    return scenes


def near_a_cut(
    gaussians: Gaussians, extrinsics: Tensor, normalised: Tensor, shape: tuple[int, int],
    antialiased: bool = False, near: float = 1.0,
) -> Tensor:  # fmt: skip
    """Pixels [h, w] of the first view where rounding may decide whether something is drawn."""
    height, width = shape
    camera_ = torch.linalg.inv(extrinsics[0, 0].double())[:3] / near
    lens = normalised[0, 0].double()[[0, 1, 0, 1], [0, 1, 2, 2]]
    lens = lens * torch.tensor([width, height, width, height])
    points = gaussians.means[0].double() @ camera_[:, :3].T + camera_[:, 3]
    order = torch.argsort(points[:, 2], stable=True)
    order = order[points[order, 2] >= reference.NEAR_PLANE]
    axes = reference.quaternion_to_matrix(gaussians.rotations[0].double())
    axes = camera_[:, :3] @ (axes * gaussians.scales[0].double()[:, None])[order]
    xy, cov, compensation = reference.project(points[order], axes, lens, height, width)
    opacity = gaussians.opacities[0].double()[order] * (compensation if antialiased else 1)
    cut = reference.ALPHA_CUT
    reference.ALPHA_CUT = 0.0
    try:
        raw = reference.alphas(xy, cov, opacity, height, width)
    finally:
        reference.ALPHA_CUT = cut
    alpha = torch.where(raw >= cut, raw, 0)
    through = torch.cumprod(1 - alpha, dim=0)
    close = ((raw / cut - 1).abs() < 1e-4) | (
        (through / reference.TRANSMITTANCE_CUT - 1).abs() < 1e-3
    )
    return close.any(0)
