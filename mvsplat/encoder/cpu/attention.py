"""Attention inside windows, to the token's own view or to all others.

Tokens are in the order of a :class:`WindowLayout`, so that a window is a run of tokens. On the CPU,
products go through oneDNN (:func:`mvsplat.encoder.cpu.convolution.linear`), up to twice as fast as
torch's fused attention there, and the backward pass keeps nothing but queries, keys and values.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvsplat.encoder.cpu.convolution import linear, transposed_product
from mvsplat.encoder.networks.windows import WindowLayout

# Attention weights held at a time (16 MiB of float32).
CHUNK_ELEMENTS = 1 << 22
# Types whose products oneDNN computes.
FAST_TYPES = (torch.float32, torch.bfloat16)


def attend_self(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
) -> Float[Tensor, "b v n c"]:
    """Attention of each token to its own window of its own view."""
    if _by_products(query):
        views = [[view] for view in range(query.shape[1])]
        return AttendInWindows.apply(query, key, value, layout, views)
    results = []
    for start, count, length in layout.groups:
        window = slice(start, start + count * length)
        own, keys, values = [
            rearrange(x[:, :, window], "b v (w l) c -> (b v) w l c", w=count)
            for x in (query, key, value)
        ]
        results.append(F.scaled_dot_product_attention(own, keys, values).flatten(1, 2))
    return _join(results).view(query.shape)


def attend_others(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
    others: Int[Tensor, "v u"],
) -> Float[Tensor, "b v n c"]:
    """Attention of each token to its window in all other views, whose indices are given."""
    if _by_products(query):
        return AttendInWindows.apply(query, key, value, layout, others.tolist())
    results = []
    for start, count, length in layout.groups:
        window = slice(start, start + count * length)
        own = rearrange(query[:, :, window], "b v (w l) c -> (b v) w l c", w=count)
        keys, values = [
            rearrange(x[:, others, window], "b v u (w l) c -> (b v) w (u l) c", w=count)
            for x in (key, value)
        ]
        results.append(F.scaled_dot_product_attention(own, keys, values).flatten(1, 2))
    return _join(results).view(query.shape)


def attend_tiled(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
    others: Int[Tensor, "v u"],
    rolled: tuple[Int[Tensor, "w l"], Float[Tensor, "w l l"]],
) -> Float[Tensor, "b v n c"]:
    """The published shifted cross-attention: keys token by token, the mask tiled view by view."""
    result = torch.empty_like(query)
    for order, mask in zip(*rolled):
        tokens = layout.inverse[order]
        own = rearrange(query[:, :, tokens], "b v l c -> (b v) 1 l c")
        keys, values = [
            rearrange(x[:, :, tokens][:, others], "b v u l c -> (b v) 1 (l u) c")
            for x in (key, value)
        ]
        bias = mask.to(own.dtype).repeat(1, others.shape[1])[None, None]
        attended = F.scaled_dot_product_attention(own, keys, values, attn_mask=bias)
        result[:, :, tokens] = attended.view(*query.shape[:2], *attended.shape[2:])
    return result


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def other_views(views: int, device: torch.device) -> Int[Tensor, "v u"]:
    """For each view, the indices of the others."""
    offsets = torch.arange(views)[:, None] + torch.arange(1, views)
    return (offsets % views).sort(dim=1).values.to(device)


class AttendInWindows(torch.autograd.Function):
    """Softmax attention window by window; the weights are computed again in the backward pass.

    ``forward(query, key, value [b, v, n, c], layout, sources) -> [b, v, n, c]``, where
    ``sources[i]`` are the views that view i attends to.
    """

    @staticmethod
    def forward(ctx, query, key, value, layout, sources):
        ctx.save_for_backward(query, key, value)
        ctx.layout, ctx.sources = layout, sources
        result = torch.empty_like(query, memory_format=torch.contiguous_format)
        scale = query.shape[-1] ** -0.5
        for at, views, window in _windows(query, layout, sources):
            keys, values = _gather(key[at[0]], views, window), _gather(value[at[0]], views, window)
            for rows in _chunks(window, len(keys)):
                weights = linear(query[at][rows] * scale, keys).softmax(dim=-1)
                result[at][rows] = linear(weights, values.mT)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value = ctx.saved_tensors
        to_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        # Sums in float32.
        to_key, to_value = (x.new_zeros(x.shape, dtype=torch.float32) for x in (key, value))
        scale = query.shape[-1] ** -0.5
        for at, views, window in _windows(query, ctx.layout, ctx.sources):
            keys, values = _gather(key[at[0]], views, window), _gather(value[at[0]], views, window)
            for rows in _chunks(window, len(keys)):
                scaled, outer = query[at][rows] * scale, gradient[at][rows]
                weights = linear(scaled, keys).softmax(dim=-1)
                _scatter(to_value[at[0]], views, window, transposed_product(weights, outer))
                logits = linear(outer, values)
                logits = torch._softmax_backward_data(logits, weights, -1, logits.dtype)
                to_query[at][rows] = linear(logits, keys.mT) * scale
                _scatter(to_key[at[0]], views, window, transposed_product(logits, scaled))
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None, None


def _by_products(query: Tensor) -> bool:
    return (
        query.device.type == "cpu"
        and query.dtype in FAST_TYPES
        and not torch.compiler.is_compiling()
    )


def _windows(
    query: Tensor, layout: WindowLayout, sources: list[list[int]]
) -> Iterator[tuple[tuple[int, int], list[int], slice]]:
    """(scene, view), the views it attends to, and the window's tokens."""
    for scene in range(query.shape[0]):
        for view, views in enumerate(sources):
            for start, count, length in layout.groups:
                for first in range(start, start + count * length, length):
                    yield (scene, view), views, slice(first, first + length)


def _chunks(window: slice, keys: int) -> Iterator[slice]:
    rows = max(16, CHUNK_ELEMENTS // keys)
    for start in range(window.start, window.stop, rows):
        yield slice(start, min(start + rows, window.stop))


def _gather(x: Float[Tensor, "v n c"], views: list[int], window: slice) -> Float[Tensor, "m c"]:
    parts = [x[view, window] for view in views]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _scatter(
    x: Float[Tensor, "v n c"], views: list[int], window: slice, parts: Float[Tensor, "m c"]
) -> None:
    for view, part in zip(views, parts.chunk(len(views))):
        x[view, window] += part


def _join(results: list[Tensor]) -> Tensor:
    return torch.cat(results, dim=1) if len(results) > 1 else results[0].contiguous()
