"""A splat whose picture is known: rendered by an engine, it must come out as the dense reference.

A ball of coloured Gaussians, needles and discs among them, seen by two cameras with off-centre
lenses. The reference evaluates every Gaussian at every pixel, in float64 and plain PyTorch.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mvsplat.decoder import SplattingDecoder, reference
from mvsplat.types import Gaussians, Rendering

Engine = Literal["gsplat", "cpu"]
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")
NUMBER, DEGREE = 120, 2
SHAPE = (48, 64)
BACKGROUND = (0.1, 0.2, 0.3)


class Deviation(NamedTuple):
    """How far an engine is from the reference.

    ``pixels``: share of them that differ by more than 1e-3 in colour, alpha or (relative) depth.
    ``gradient``: largest relative difference of a gradient, over Gaussians' fields and cameras.
    """

    pixels: float
    gradient: float

    @property
    def acceptable(self) -> bool:
        """A Gaussian on a threshold may be drawn by one renderer and not by another."""
        return self.pixels <= 1e-3 and self.gradient <= 1e-2


def known_splat() -> Gaussians:
    """Gaussians on a spiral over a ball of radius 1 at the origin, float64."""
    i = torch.arange(NUMBER, dtype=torch.float64)
    height, turn = 1 - 2 * (i + 0.5) / NUMBER, i * math.pi * (3 - math.sqrt(5))
    radius = (1 - height**2).sqrt()
    means = torch.stack([radius * turn.cos(), height, radius * turn.sin()], dim=-1)
    phases = i[:, None] * torch.tensor([0.9, 1.7, 2.6, 3.1])
    harmonics = 0.6 * torch.sin(i[:, None, None] + torch.arange(27.0).reshape(3, 9) ** 1.5)
    return Gaussians(
        means=means[None],
        scales=(0.02 + 0.15 * phases[:, :3].sin() ** 2)[None],
        rotations=torch.nn.functional.normalize(phases.cos(), dim=-1)[None],
        harmonics=harmonics[None],
        opacities=(0.5 + 0.45 * (1.3 * i).sin())[None],
    )


def cameras() -> tuple[Tensor, Tensor, Tensor]:
    """Extrinsics [1, 2, 4, 4], normalised intrinsics [1, 2, 3, 3] and near [1, 2], float64."""
    extrinsics = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    extrinsics[0, :3, 3] = torch.tensor([0.1, -0.1, -2.5])
    extrinsics[1, :3, :3] = torch.tensor([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    extrinsics[1, :3, 3] = torch.tensor([-1.5, 0.0, -2.0])
    intrinsics = torch.tensor([[0.9, 0, 0.45], [0, 1.2, 0.55], [0, 0, 1]], dtype=torch.float64)
    near = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    return extrinsics[None], intrinsics.expand(1, 2, 3, 3), near


def draw_reference() -> tuple[Rendering, list[Tensor]]:
    """The known picture, and the gradients of ``_scalar`` of it."""
    gaussians, (extrinsics, k, near) = known_splat(), cameras()
    leaves = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    leaves.append(extrinsics.requires_grad_())
    height, width = SHAPE
    lenses = torch.stack([k[0, :, 0, 0], k[0, :, 1, 1], k[0, :, 0, 2], k[0, :, 1, 2]], dim=-1)
    lenses = lenses * torch.tensor([width, height, width, height])
    views = []
    for pose, lens, unit in zip(extrinsics[0], lenses, near[0]):
        camera = torch.linalg.inv(pose)[:3] / unit
        fields = {name: leaf[0] for name, leaf in zip(FIELDS, leaves)}
        color, depth, transmittance = reference.splat(
            **fields, camera=camera, center=pose[:3, 3], lens=lens, background=list(BACKGROUND),
            height=height, width=width, degree=DEGREE, antialiased=False,
        )  # fmt: skip
        alpha = 1 - transmittance
        views.append((color, unit * depth / alpha.clamp(min=1e-10), alpha))
    rendering = Rendering(*(torch.stack(parts)[None] for parts in zip(*views)))
    return rendering, list(torch.autograd.grad(_scalar(rendering), leaves))


def draw(engine: Engine, device: str) -> tuple[Rendering, list[Tensor]]:
    """What an engine makes of it."""
    gaussians = known_splat().to(device, torch.float32)
    extrinsics, intrinsics, near = (t.to(device, torch.float32) for t in cameras())
    leaves = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    leaves.append(extrinsics.requires_grad_())
    decoder = SplattingDecoder(background=BACKGROUND, sh_degree=DEGREE, engine=engine)
    rendering = decoder(gaussians, extrinsics, intrinsics, near, 100 * near, SHAPE)
    grads = torch.autograd.grad(_scalar(rendering), leaves)
    return rendering.to("cpu"), [grad.cpu() for grad in grads]


def _scalar(rendering: Rendering) -> Tensor:
    return rendering.color.square().mean() + rendering.alpha.square().mean()


def deviation(engine: Engine, device: str) -> Deviation:
    """Render the known splat with an engine and compare it with its known picture.

    Raises:
        RuntimeError: The engine cannot be used here.
    """
    rendering, grads = draw(engine, device)
    truth, true_grads = draw_reference()
    seen = truth.alpha > 0.01  # depth is that of what was drawn
    wrong = ((rendering.color - truth.color).abs() > 1e-3).any(dim=2)
    wrong |= (rendering.alpha - truth.alpha).abs() > 1e-3
    wrong |= seen & ((rendering.depth / truth.depth - 1).abs() > 1e-3)
    wrong |= ~torch.isfinite(rendering.color).all(dim=2)
    relative = [float((g - t).norm() / t.norm()) for g, t in zip(grads, true_grads)]
    gradient = max(r if math.isfinite(r) else math.inf for r in relative)
    return Deviation(float(wrong.float().mean()), gradient)
