"""Correlation of features with another map at points, as chunks of matrix products.

Warping another view's features and then correlating them needs C x D x H x W numbers. Bilinear
sampling is linear, so correlating first and sampling the correlation map gives the same volume:
a chunk of reference pixels times all pixels of the other view is one matrix product, and each
candidate reads four of its values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mvsplat.encoder.cpu.products import linear, transposed_product

# Correlations held at a time (64 MiB of float32): more does not run faster.
CHUNK_ELEMENTS = 1 << 24


@torch.library.custom_op("mvsplat::correlate_at_points", mutates_args=())
def correlate_at_points(reference: Tensor, other: Tensor, grid: Tensor) -> Tensor:
    """Dot products of reference features and another map's features at points.

    An operation of its own, which ``torch.compile`` leaves whole. Correlation maps are computed
    again in the backward pass, chunk by chunk; ``grid`` gets no gradient.

    Args:
        reference: Features [b, n, c].
        other: Maps [b, h, w, c].
        grid: Points [b, n, d, 2] as in ``grid_sample`` with aligned corners and zeros outside.

    Returns:
        [b, n, d].
    """
    result = reference.new_empty(grid.shape[:3])
    height, width = other.shape[1:3]
    for item, rows in _chunks(reference, other):
        maps = linear(reference[item, rows], other[item].flatten(0, 1))
        sampled = F.grid_sample(
            maps.view(-1, 1, height, width), grid[item, rows, None], align_corners=True
        )
        result[item, rows] = sampled[:, 0, 0]
    return result


@correlate_at_points.register_fake
def _(reference: Tensor, other: Tensor, grid: Tensor) -> Tensor:
    return reference.new_empty(grid.shape[:3])


@torch.library.custom_op("mvsplat::correlate_at_points_backward", mutates_args=())
def _correlate_backward(
    gradient: Tensor, reference: Tensor, other: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor]:
    to_reference, to_other = torch.empty_like(reference), torch.zeros_like(other)
    height, width = other.shape[1:3]
    for item, rows in _chunks(reference, other):
        weights = _scatter(gradient[item, rows], grid[item, rows], height, width)
        to_reference[item, rows] = linear(weights, other[item].flatten(0, 1).mT)
        to_other[item] += transposed_product(weights, reference[item, rows]).view_as(other[item])
    return to_reference, to_other


@_correlate_backward.register_fake
def _(gradient: Tensor, reference: Tensor, other: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(reference), torch.empty_like(other)


def _keep(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _send_back(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    return (*_correlate_backward(gradient, *ctx.saved_tensors), None)


correlate_at_points.register_autograd(_send_back, setup_context=_keep)


def _chunks(reference: Tensor, other: Tensor) -> list[tuple[int, slice]]:
    rows = max(1, CHUNK_ELEMENTS // (other.shape[1] * other.shape[2]))
    starts = range(0, reference.shape[1], rows)
    return [
        (item, slice(start, start + rows)) for item in range(len(reference)) for start in starts
    ]


def _scatter(gradient: Tensor, grid: Tensor, height: int, width: int) -> Tensor:
    """Adjoint of sampling the correlation maps: [n, d] at points [n, d, 2] to maps [n, h w]."""
    # torch's backward pass reads the shape of the sampled maps only: one number stands for them.
    empty = gradient.new_empty(()).expand(len(gradient), 1, height, width)
    maps, _ = torch.ops.aten.grid_sampler_2d_backward(
        gradient[:, None, None], empty, grid[:, None], 0, 0, True, [True, False]
    )
    return maps.flatten(1)
