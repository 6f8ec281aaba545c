"""Correlation of features with another map at points, as chunks of matrix products.

Warping another view's features and then correlating them needs C x D x H x W numbers. Bilinear
sampling is linear, so correlating first and sampling the correlation map gives the same volume:
a chunk of reference pixels times the pixels of the other view is one matrix product, and each
candidate reads four of its values. On the CPU only the box that a chunk's points lie in is
multiplied: of cameras side by side, a few rows. Where each pixel has few candidates on a large map,
features are sampled chunk by chunk instead: a correlation map has as many numbers as the map has
pixels.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mvsplat.encoder.cpu.products import linear, transposed_product

# Correlations held at a time (64 MiB of float32): more does not run faster.
CHUNK_ELEMENTS = 1 << 24
# Rows of the map in a chunk on the CPU, where fewer read a smaller box.
CHUNK_ROWS = 8
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
    for piece in pieces(reference, other, grid):
        item, rows = piece.item, piece.rows
        features = other[item][piece.box]
        maps = linear(reference[item, rows], features.flatten(0, 1))
        sampled = F.grid_sample(
            maps.view(-1, 1, *features.shape[:2]), piece.points(grid, other), align_corners=True
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
    for piece in pieces(reference, other, grid):
        item, rows = piece.item, piece.rows
        features = other[item][piece.box]
        # The adjoint of sampling the correlation maps.
        weights = _scatter_samples(
            gradient[item, rows, None, None], piece.points(grid, other), features.shape[:2]
        ).flatten(1)
        to_reference[item, rows] = linear(weights, features.flatten(0, 1).mT)
        product = transposed_product(weights, reference[item, rows])
        to_other[item][piece.box] += product.view_as(features)
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


class Piece(NamedTuple):
    """Some of an item's reference pixels, and the box of the other map that their points read."""

    item: int
    rows: slice
    box: tuple[slice, slice]

    def points(self, grid: Tensor, other: Tensor) -> Tensor:
        """Its points [n, 1, d, 2], as ``grid_sample`` of the box takes them."""
        points = grid[self.item, self.rows, None]
        sides = (self.box[1], self.box[0])
        sizes = (other.shape[2] - 1, other.shape[1] - 1)
        factors = [size / (side.stop - side.start - 1) for side, size in zip(sides, sizes)]
        if factors == [1, 1]:
            return points
        offsets = [
            (size - 2 * side.start) / (side.stop - side.start - 1) - 1
            for side, size in zip(sides, sizes)
        ]
        return points * points.new_tensor(factors) + points.new_tensor(offsets)


def pieces(reference: Tensor, other: Tensor, grid: Tensor) -> list[Piece]:
    """What :func:`correlate_at_points` multiplies, one after another."""
    height, width = other.shape[1:3]
    rows = max(1, CHUNK_ELEMENTS // (height * width))
    whole = (slice(0, height), slice(0, width))
    # Elsewhere the processor would wait for the device to say where the points are.
    if reference.device.type != "cpu" or min(height, width) < 2:
        return [Piece(item, part, whole) for item, part in _cut(reference, rows)]
    return [
        Piece(item, part, _box(grid[item, part], height, width))
        for item, part in _cut(reference, min(rows, CHUNK_ROWS * width))
    ]


def _box(points: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns that hold all pixels around these points [n, d, 2]."""
    low, high = (x.tolist() for x in points.flatten(0, 1).aminmax(dim=0))
    x, y = (_side(*ends) for ends in zip(low, high, (width, height)))
    return y, x


def _side(low: float, high: float, size: int) -> slice:
    """At least two of so many pixels along an axis, with one more at both ends for rounding."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return slice(0, size)
    first, last = (math.floor((x + 1) / 2 * (size - 1)) for x in (low, high))
    start = max(0, min(first - 1, size - 2))
    return slice(start, max(start + 2, min(last + 3, size)))


def _sample_chunks(reference: Tensor, grid: Tensor) -> list[tuple[int, slice]]:
    return _cut(reference, max(1, SAMPLED_ELEMENTS // (reference.shape[2] * grid.shape[2])))


def _cut(reference: Tensor, rows: int) -> list[tuple[int, slice]]:
    starts = range(0, reference.shape[1], rows)
    return [
        (item, slice(start, start + rows)) for item in range(len(reference)) for start in starts
    ]


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
