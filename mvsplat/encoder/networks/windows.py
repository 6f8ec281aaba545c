"""Attention windows of a feature map, and the position encoding inside them.

Swin's shifted windows (Liu et al., 2021) roll the map by half a window and mask what does not
belong together. The mask cuts the rolled map exactly where the image's borders are, so what is
left are plain rectangles: the map cut at half a window, then at every whole one. Keeping tokens
sorted by rectangle makes attention dense, needs neither roll nor mask, and skips the masked work.

What is cached is made outside of inference mode, so that training after a prediction can use it.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class WindowLayout:
    """An order of a map's tokens in which each window's tokens are consecutive.

    Args:
        order: Raster position of each token; windows with equally many tokens are neighbours.
        inverse: The index that brings tokens in this order back to raster order.
        groups: (first token, number of windows, tokens a window) of windows of one size.
    """

    order: Int[Tensor, " n"]
    inverse: Int[Tensor, " n"]
    groups: tuple[tuple[int, int, int], ...]


def _cuts(size: int, splits: int, shifted: bool) -> list[tuple[int, int]]:
    window = size // splits
    inner = range(window // 2 if shifted else window, size, window)
    edges = [0, *(edge for edge in inner if edge > 0), size]
    return list(zip(edges, edges[1:]))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def window_layout(
    height: int, width: int, splits: int, shifted: bool, device: torch.device
) -> WindowLayout:
    """The windows of a map cut ``splits`` times along each axis, optionally shifted by half."""
    raster = torch.arange(height * width).view(height, width)
    windows = [
        raster[top:bottom, left:right].flatten()
        for top, bottom in _cuts(height, splits, shifted)
        for left, right in _cuts(width, splits, shifted)
    ]
    # Windows of one size next to each other: they are one batched product. The sort is stable.
    windows.sort(key=len, reverse=True)
    groups, start = [], 0
    for length in sorted({len(window) for window in windows}, reverse=True):
        count = sum(len(window) == length for window in windows)
        groups.append((start, count, length))
        start += count * length
    order = torch.cat(windows)
    return WindowLayout(order.to(device), torch.argsort(order).to(device), tuple(groups))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def rolled_windows(
    height: int, width: int, splits: int, device: torch.device
) -> tuple[Int[Tensor, "w l"], Float[Tensor, "w l l"]]:
    """Swin's form of the shifted windows: raster positions by window, and the additive mask."""
    regions = torch.empty(height, width, dtype=torch.long)
    for row, (top, bottom) in enumerate(_cuts(height, splits, shifted=True)):
        for column, (left, right) in enumerate(_cuts(width, splits, shifted=True)):
            regions[top:bottom, left:right] = row * (splits + 1) + column
    shift = (-(height // splits // 2), -(width // splits // 2))
    raster = torch.arange(height * width).view(height, width).roll(shift, (0, 1))
    order = rearrange(raster, "(s h) (t w) -> (s t) (h w)", s=splits, t=splits)
    region = regions.flatten()[order]
    mask = torch.where(region[:, :, None] == region[:, None], 0.0, -100.0)
    return order.to(device), mask.to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def position_encoding(
    height: int, width: int, splits: int, channels: int, device: torch.device
) -> Float[Tensor, "p c"]:
    """DETR's sine encoding (Carion et al., 2020), the same in each window.

    Half of the channels encode y, then half x: positions 1..n over n, times 2 pi, at frequencies
    10000^(-2 floor(i / 2) / (channels / 2)), sine for even i and cosine for odd.
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half
    parts = []
    for size in (height // splits, width // splits):
        position = torch.arange(1, size + 1) / size * (2 * torch.pi)
        angle = position[:, None] / 10000**exponent
        parts.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1))
    y = parts[0][:, None].expand(-1, len(parts[1]), -1)
    x = parts[1][None].expand(len(parts[0]), -1, -1)
    return torch.cat([y, x], dim=-1).repeat(splits, splits, 1).flatten(0, 1).to(device)
