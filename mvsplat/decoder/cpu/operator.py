"""The rasterizer as a registered torch operator: differentiable, opaque to ``torch.compile``."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvsplat.decoder.cpu.checks import check_inputs
from mvsplat.decoder.cpu.rasterizer import Scene, build_lists, render, render_backward

def _scene(tensors: list[Tensor], height: int, width: int, degree: int, antialiased: bool) -> Scene:
    gaussians = [t.detach().contiguous().numpy() for t in tensors[:5]]
    cameras = [t.detach().double().contiguous().numpy() for t in tensors[5:]]
    return Scene(*gaussians, *cameras, height, width, degree, antialiased)


@torch.library.custom_op("mvsplat::splat", mutates_args=())
def splat(
    means: Tensor, scales: Tensor, rotations: Tensor, harmonics: Tensor, opacities: Tensor,
    cameras: Tensor, centers: Tensor, lenses: Tensor, background: list[float],
    height: int, width: int, degree: int, antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Render float32 Gaussians of [scenes] into [scenes, views].

    Args:
        means, scales, rotations, harmonics, opacities: As in ``Gaussians``.
        cameras: World-to-camera matrices [scenes, views, 3, 4].
        centers: Camera centres [scenes, views, 3], from which colours are seen.
        lenses: fx, fy, cx, cy in pixels [scenes, views, 4]; not differentiable.

    Returns:
        Color, accumulated depth, transmittance, and the position of each pixel's last contribution.
    """
    tensors = [means, scales, rotations, harmonics, opacities, cameras, centers, lenses]
    check_inputs(tensors, height, width, degree)
    scene = _scene(tensors, height, width, degree, antialiased)
    outputs = render(build_lists(scene), np.array(background, dtype=np.float32), height, width)
    color, depth, transmittance, last = (torch.from_numpy(array) for array in outputs)
    return color, depth, transmittance, last


@splat.register_fake
def _(
    means, scales, rotations, harmonics, opacities, cameras, centers, lenses, background,
    height, width, degree, antialiased,
):  # fmt: skip
    leading = cameras.shape[:2]
    return (
        means.new_empty((*leading, 3, height, width)),
        means.new_empty((*leading, height, width)),
        means.new_empty((*leading, height, width)),
        means.new_empty((*leading, height, width), dtype=torch.int32),
    )


@torch.library.custom_op("mvsplat::splat_backward", mutates_args=())
def splat_backward(
    grad_color: Tensor, grad_depth: Tensor, grad_transmittance: Tensor,
    transmittance: Tensor, last: Tensor,
    means: Tensor, scales: Tensor, rotations: Tensor, harmonics: Tensor, opacities: Tensor,
    cameras: Tensor, centers: Tensor, lenses: Tensor, background: list[float],
    height: int, width: int, degree: int, antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of ``splat``; the tile lists are made again, which is cheaper than keeping them."""
    tensors = [means, scales, rotations, harmonics, opacities, cameras, centers, lenses]
    scene = _scene(tensors, height, width, degree, antialiased)
    images = [grad_color, grad_depth, grad_transmittance, transmittance, last]
    outputs = tuple(t.detach().contiguous().numpy() for t in images)
    lists = build_lists(scene)
    grads = render_backward(scene, lists, np.array(background, dtype=np.float32), outputs)
    m, s, r, h, o, c, p = (torch.from_numpy(array) for array in grads)
    return m, s, r, h, o, c.to(cameras.dtype), p.to(centers.dtype)


@splat_backward.register_fake
def _(grad_color, grad_depth, grad_transmittance, transmittance, last, *inputs):
    return tuple(torch.empty_like(tensor) for tensor in inputs[:7])


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs[:8], output[2], output[3])
    ctx.settings = inputs[8:]
    ctx.mark_non_differentiable(output[3])


def _backward(ctx: Any, grad_color: Any, grad_depth: Any, grad_transmittance: Any, _: Any) -> tuple:
    *inputs, transmittance, last = ctx.saved_tensors
    grads = splat_backward(
        grad_color, grad_depth, grad_transmittance, transmittance, last, *inputs, *ctx.settings
    )
    return (*grads, *([None] * 6))


splat.register_autograd(_backward, setup_context=_setup_context)
