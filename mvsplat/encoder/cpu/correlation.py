"""Correlation of features with another map at points, as chunks of matrix products.

Warping another view's features and then correlating them needs C x D x H x W numbers. Bilinear
sampling is linear, so correlating first and sampling the correlation map gives the same volume:
a chunk of reference pixels times all pixels of the other view is one matrix product, and each
candidate reads four of its values. Where each pixel has few candidates on a large map, features
are sampled chunk by chunk instead: a correlation map has as many numbers as the map has pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mvsplat.encoder.cpu.products import linear, transposed_product

# Correlations held at a time (64 MiB of float32): more does not run faster.
CHUNK_ELEMENTS = 1 << 24
# Sampled features held at a time (8 MiB).
SAMPLED_ELEMENTS = 1 << 21


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


@torch.library.custom_op("mvsplat::correlate_with_samples", mutates_args=())
def correlate_with_samples(reference: Tensor, other: Tensor, grid: Tensor) -> Tensor:
    """What :func:`correlate_at_points` gives, by sampling features: for few points on large maps.

    Samples are taken again in the backward pass; ``grid`` gets no gradient.
    """
    result = reference.new_empty(grid.shape[:3])
    maps = other.permute(0, 3, 1, 2).contiguous()
    for item, rows in _sample_chunks(reference, grid):
        sampled = _sample(maps, grid, item, rows)
        result[item, rows] = (sampled * reference[item, rows].mT[..., None]).sum(0)
    return result


@correlate_with_samples.register_fake
def _(reference: Tensor, other: Tensor, grid: Tensor) -> Tensor:
    return reference.new_empty(grid.shape[:3])


@torch.library.custom_op("mvsplat::correlate_with_samples_backward", mutates_args=())
def _correlate_samples_backward(
    gradient: Tensor, reference: Tensor, other: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor]:
    to_reference = torch.empty_like(reference)
    maps = other.permute(0, 3, 1, 2).contiguous()
    to_maps = torch.zeros_like(maps)
    for item, rows in _sample_chunks(reference, grid):
        outer = gradient[item, rows]
        to_reference[item, rows] = (_sample(maps, grid, item, rows) * outer).sum(-1).mT
        to_samples = (reference[item, rows].mT[..., None] * outer)[None]
        to_maps[item] += _scatter_samples(to_samples, grid[item, rows][None], maps.shape[2:])[0]
    return to_reference, to_maps.permute(0, 2, 3, 1).contiguous()


@_correlate_samples_backward.register_fake
def _(gradient: Tensor, reference: Tensor, other: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(reference), torch.empty_like(other)


def _keep(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _send_back(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    return (*_correlate_backward(gradient, *ctx.saved_tensors), None)


def _send_samples_back(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    return (*_correlate_samples_backward(gradient, *ctx.saved_tensors), None)


correlate_at_points.register_autograd(_send_back, setup_context=_keep)
correlate_with_samples.register_autograd(_send_samples_back, setup_context=_keep)


def _chunks(reference: Tensor, other: Tensor) -> list[tuple[int, slice]]:
    return _cut(reference, max(1, CHUNK_ELEMENTS // (other.shape[1] * other.shape[2])))


def _sample_chunks(reference: Tensor, grid: Tensor) -> list[tuple[int, slice]]:
    return _cut(reference, max(1, SAMPLED_ELEMENTS // (reference.shape[2] * grid.shape[2])))


def _cut(reference: Tensor, rows: int) -> list[tuple[int, slice]]:
    starts = range(0, reference.shape[1], rows)
    return [
        (item, slice(start, start + rows)) for item in range(len(reference)) for start in starts
    ]


def _scatter(gradient: Tensor, grid: Tensor, height: int, width: int) -> Tensor:
    """Adjoint of sampling the correlation maps: [n, d] at points [n, d, 2] to maps [n, h w]."""
    return _scatter_samples(gradient[:, None, None], grid[:, None], (height, width)).flatten(1)


def _sample(maps: Tensor, grid: Tensor, item: int, rows: slice) -> Tensor:
    """Features [c, n, d] at some pixels' points."""
    return F.grid_sample(maps[item, None], grid[item, None, rows], align_corners=True)[0]


def _scatter_samples(gradient: Tensor, grid: Tensor, size: tuple[int, ...]) -> Tensor:
    """Adjoint of ``grid_sample``: [b, c, n, d] at points [b, n, d, 2] to maps [b, c, h, w]."""
    # torch's backward pass reads the shape of the sampled maps only: one number stands for them.
    empty = gradient.new_empty(()).expand(*gradient.shape[:2], *size)
    maps, _ = torch.ops.aten.grid_sampler_2d_backward(
        gradient, empty, grid, 0, 0, True, [True, False]
    )
    return maps
