"""The cost volume: how well each pixel matches the other views at each candidate depth.

Warping another view's features and then correlating them needs C x D x H x W numbers. Bilinear
sampling is linear, so correlating first and sampling the correlation map gives the same volume:
a chunk of reference pixels times all pixels of the other view is one matrix product, and each
candidate reads four of its values.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mvsplat.encoder.convolution import linear
from mvsplat.geometry.projection import plane_sweep_coordinates
from mvsplat.types import Views

# Correlations held at a time (64 MiB of float32): more does not run faster.
CHUNK_ELEMENTS = 1 << 24


class CorrelateAtPoints(torch.autograd.Function):
    """Dot products of reference features and another map's features at points.

    ``forward(reference [b, n, c], other [b, h, w, c], grid [b, n, d, 2]) -> [b, n, d]``; ``grid``
    is as in ``grid_sample`` with aligned corners and zeros outside, and gets no gradient. The
    correlation maps are computed again in the backward pass, chunk by chunk.
    """

    @staticmethod
    def forward(ctx, reference: Tensor, other: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(reference, other, grid)
        result = reference.new_empty(grid.shape[:3])
        height, width = other.shape[1:3]
        for item, rows in _chunks(reference, other):
            maps = linear(reference[item, rows], other[item].flatten(0, 1))
            sampled = F.grid_sample(
                maps.view(-1, 1, height, width), grid[item, rows, None], align_corners=True
            )
            result[item, rows] = sampled[:, 0, 0]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        reference, other, grid = ctx.saved_tensors
        to_reference, to_other = torch.empty_like(reference), torch.zeros_like(other)
        height, width = other.shape[1:3]
        for item, rows in _chunks(reference, other):
            weights = _scatter(gradient[item, rows], grid[item, rows], height, width)
            to_reference[item, rows] = linear(weights, other[item].flatten(0, 1).mT)
            to_other[item] += linear(weights.mT, reference[item, rows].mT).view_as(to_other[item])
        return to_reference, to_other, None


def _chunks(reference: Tensor, other: Tensor) -> list[tuple[int, slice]]:
    rows = max(1, CHUNK_ELEMENTS // (other.shape[1] * other.shape[2]))
    starts = range(0, reference.shape[1], rows)
    return [
        (item, slice(start, start + rows)) for item in range(len(reference)) for start in starts
    ]


def _scatter(gradient: Tensor, grid: Tensor, height: int, width: int) -> Tensor:
    """Adjoint of sampling the correlation maps: [n, d] at points [n, d, 2] to maps [n, h w]."""
    empty = gradient.new_empty(()).expand(len(gradient), 1, height, width)
    maps, _ = torch.ops.aten.grid_sampler_2d_backward(
        gradient[:, None, None], empty, grid[:, None], 0, 0, True, [True, False]
    )
    return maps.flatten(1)


class CostVolume(nn.Module):
    """Plane-sweep correlation of each view with all others (MVSplat, section 3.1).

    Its output is the volume, so a forward hook can replace it.
    """

    def forward(
        self,
        features: Float[Tensor, "n c h w"],
        views: Views,
        disparities: Float[Tensor, "n d"],
    ) -> Float[Tensor, "n d h w"]:
        """Correlation / sqrt(c), the mean over the other views, at each candidate disparity."""
        count, (channels, height, width) = views.image.shape[1], features.shape[1:]
        with torch.autocast(features.device.type, enabled=False):
            maps = features.float().permute(0, 2, 3, 1).contiguous()
            reference = maps.flatten(1, 2)
            volume = 0
            for offset in range(1, count):
                grid = self._grid(views, disparities, offset, height, width)
                other = maps.unflatten(0, (-1, count)).roll(-offset, dims=1).flatten(0, 1)
                volume = volume + CorrelateAtPoints.apply(reference, other, grid)
            volume = volume / (channels**0.5 * (count - 1))
        return volume.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    @staticmethod
    @torch.no_grad()
    def _grid(views: Views, disparities: Tensor, offset: int, height: int, width: int) -> Tensor:
        """Where the view ``offset`` further on sees each candidate, for ``grid_sample``."""
        poses, lenses = views.extrinsics.float(), views.intrinsics.float()
        other_poses, other_lenses = [x.roll(-offset, dims=1) for x in (poses, lenses)]
        pixels = plane_sweep_coordinates(
            (poses.flatten(0, 1), lenses.flatten(0, 1)),
            (other_poses.flatten(0, 1), other_lenses.flatten(0, 1)),
            1 / disparities,
            height,
            width,
        )
        return pixels * (2 / pixels.new_tensor([width - 1, height - 1])) - 1
