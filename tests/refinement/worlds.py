"""Small scenes whose truth is known: Gaussians, photographs of them, and worse Gaussians."""

from dataclasses import replace

import torch

from mvsplat import SplattingDecoder
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

LENS = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)


def world(count: int = 60, seed: int = 0, degree: int = 1) -> Gaussians:
    """Opaque, colourful Gaussians before a camera at the origin, two to four units away."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    depth = 2 + 2 * uniform(count, 1)
    means = torch.cat([(uniform(count, 2) - 0.5) * depth, depth], dim=-1)
    return Gaussians(
        means=means[None],
        scales=(0.08 + 0.25 * uniform(1, count, 3)),
        rotations=torch.nn.functional.normalize(uniform(1, count, 4) - 0.5, dim=-1),
        harmonics=torch.cat(
            [
                3 * (uniform(1, count, 3, 1) - 0.5),
                0.2 * (uniform(1, count, 3, (degree + 1) ** 2 - 1) - 0.5),
            ],
            dim=-1,
        ),
        opacities=0.5 + 0.45 * uniform(1, count),
    )


def cameras(count: int) -> torch.Tensor:
    """Camera-to-world matrices side by side, looking along z, [n, 4, 4]."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.5, 0.5, count)
    poses[:, 1, 3] = 0.1 * torch.linspace(0, 6, count).sin()
    return poses


def photographs(
    gaussians: Gaussians, count: int, shape: tuple[int, int] = (36, 48)
) -> list[Photograph]:
    """What cameras side by side see of Gaussians."""
    found = []
    for number, pose in enumerate(cameras(count)):
        unit = torch.ones(1, 1)
        color = SplattingDecoder()(
            gaussians, pose[None, None], LENS[None, None], unit, unit, shape
        ).color[0, 0]
        pixels = (color.clamp(0, 1) * 255).round().to(torch.uint8)
        found.append(Photograph(f"photo_{number}", pixels, pose, LENS))
    return found


def worsened(gaussians: Gaussians, seed: int = 1) -> Gaussians:
    """The Gaussians moved and recoloured at random."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor, size: float) -> torch.Tensor:
        return size * torch.randn(like.shape, generator=generator)

    return replace(
        gaussians,
        means=gaussians.means + noise(gaussians.means, 0.03),
        harmonics=gaussians.harmonics + noise(gaussians.harmonics, 0.2),
    )
