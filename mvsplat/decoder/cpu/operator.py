"""The rasterizer as a registered torch operator: differentiable, opaque to ``torch.compile``."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvsplat.decoder.cpu.checks import check_operands
from mvsplat.decoder.cpu.footprint import RECORD
from mvsplat.decoder.cpu.rasterizer import (
    SplatArrays,
    TileLists,
    build_lists,
    render,
    render_backward,
)
from mvsplat.decoder.cpu.tiles import TILE


def scene_arrays(
    tensors: list[Tensor], height: int, width: int, degree: int, antialiased: bool
) -> SplatArrays:
    """What the kernels read, from the operator's first arguments."""
    means, scales, rotations, harmonics, opacities = (
        t.detach().float().contiguous().numpy() for t in tensors[:5]
    )
    cameras, centers, lenses = (t.detach().double().contiguous().numpy() for t in tensors[5:])
    size = np.array([width, height], dtype=np.float64)
    focal, principal = lenses[..., :2], lenses[..., 2:]
    # As in 3DGS, the Jacobian is taken at most 0.15 of the image's size outside of it: farther, the
    # linear approximation would make footprints huge.
    least, greatest = (-principal - 0.15 * size) / focal, (1.15 * size - principal) / focal
    bounds = np.stack([least, greatest], axis=-1).reshape(*lenses.shape[:2], 4)
    lenses = np.concatenate([lenses, bounds], axis=-1)
    return SplatArrays(
        means, scales, rotations, harmonics, opacities, cameras, centers, lenses,
        height, width, degree, antialiased,
    )  # fmt: skip


@torch.library.custom_op("mvsplat::splat", mutates_args=())
def splat(
    means: Tensor, scales: Tensor, rotations: Tensor, harmonics: Tensor, opacities: Tensor,
    cameras: Tensor, centers: Tensor, lenses: Tensor, background: list[float],
    height: int, width: int, degree: int, antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Render float32 Gaussians of [scenes] into [scenes, views].

    Args:
        means, scales, rotations, harmonics, opacities: As in ``Gaussians``.
        cameras: World-to-camera matrices [scenes, views, 3, 4].
        centers: Camera centres [scenes, views, 3], from which colours are seen.
        lenses: fx, fy, cx, cy in pixels [scenes, views, 4]; not differentiable.  All cameras
            are best given in float64.

    Returns:
        Color, accumulated depth and transmittance; then what only the backward pass needs: the
        position of each pixel's last contribution, and the tile lists.
    """
    tensors = [means, scales, rotations, harmonics, opacities, cameras, centers, lenses]
    check_operands(tensors, degree)
    lists = build_lists(scene_arrays(tensors, height, width, degree, antialiased))
    images = render(lists, np.array(background, dtype=np.float32), height, width)
    words = lists.words.view(np.int64)  # torch knows few operations on uint64
    arrays = (*images, lists.records, lists.slots, words, lists.tile_starts)
    a, b, c, d, e, f, g, h = (torch.from_numpy(array) for array in arrays)
    return a, b, c, d, e, f, g, h


@splat.register_fake
def _(
    means, scales, rotations, harmonics, opacities, cameras, centers, lenses, background,
    height, width, degree, antialiased,
):  # fmt: skip
    (scenes, views), gaussians = cameras.shape[:2], means.shape[1]
    tiles = -(-height // TILE) * -(-width // TILE)
    pairs = torch.library.get_ctx().new_dynamic_size()
    image = means.new_empty((scenes, views, height, width))
    return (
        means.new_empty((scenes, views, 3, height, width)),
        image,
        torch.empty_like(image),
        torch.empty_like(image, dtype=torch.int32),
        means.new_empty((scenes, views, gaussians, RECORD)),
        means.new_empty((scenes, views, gaussians + 1), dtype=torch.int32),
        means.new_empty(pairs, dtype=torch.int64),
        means.new_empty(scenes * views * tiles + 1, dtype=torch.int64),
    )


@torch.library.custom_op("mvsplat::splat_backward", mutates_args=())
def splat_backward(
    means: Tensor, scales: Tensor, rotations: Tensor, harmonics: Tensor, opacities: Tensor,
    cameras: Tensor, centers: Tensor, lenses: Tensor, background: list[float],
    height: int, width: int, degree: int, antialiased: bool,
    grad_color: Tensor, grad_depth: Tensor, grad_transmittance: Tensor,
    transmittance: Tensor, last: Tensor,
    records: Tensor, slots: Tensor, words: Tensor, tile_starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of ``splat`` with respect to its first seven arguments."""
    tensors = [means, scales, rotations, harmonics, opacities, cameras, centers, lenses]
    scene = scene_arrays(tensors, height, width, degree, antialiased)
    images = [grad_color, grad_depth, grad_transmittance, transmittance, last]
    outputs = tuple(t.detach().contiguous().numpy() for t in images)
    arrays = [t.detach().numpy() for t in (records, slots, words, tile_starts)]
    lists = TileLists(arrays[0], arrays[1], arrays[2].view(np.uint64), arrays[3])
    grads = render_backward(scene, lists, np.array(background, dtype=np.float32), outputs)
    m, s, r, h, o, c, p = (torch.from_numpy(array) for array in grads)
    return m, s, r, h, o, c.to(cameras.dtype), p.to(centers.dtype)


@splat_backward.register_fake
def _(*arguments):
    return tuple(torch.empty_like(tensor) for tensor in arguments[:7])


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs[:8], *output[2:])
    ctx.settings = inputs[8:]
    ctx.mark_non_differentiable(*output[3:])


def _backward(ctx: Any, *grads: Any) -> tuple:
    inputs, state = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
    found = splat_backward(*inputs, *ctx.settings, *grads[:3], *state)
    return (*found, *([None] * 6))


splat.register_autograd(_backward, setup_context=_setup_context)
