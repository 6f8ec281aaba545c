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

from mvsplat.encoder.cpu.convolution import linear, transposed_product
from mvsplat.geometry.projection import plane_sweep_coordinates
from mvsplat.types import Views

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
                volume = volume + correlate_at_points(reference, other, grid)
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
