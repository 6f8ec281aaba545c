"""Attention inside windows, arranged so that it runs fast on the CPU.

There products go through oneDNN (:func:`mvsplat.encoder.cpu.products.linear`), up to twice as fast
as torch's fused attention, and the backward pass keeps nothing but queries, keys and values. On
other devices, and where ``torch.compile`` looks, it is torch's attention.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvsplat.encoder.cpu.products import linear, transposed_product
from mvsplat.private_names import softmax_backward

# Attention weights held at a time (16 MiB of float32).
CHUNK_ELEMENTS = 1 << 22
# Types whose products oneDNN computes.
FAST_TYPES = (torch.float32, torch.bfloat16)

WindowGroups = tuple[tuple[int, int, int], ...]
"""(first token, number of windows, tokens a window) of windows of one size."""


def attend_in_windows(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    groups: WindowGroups,
    others: Int[Tensor, "s v u"] | None = None,
) -> Float[Tensor, "b v n c"]:
    """Softmax attention of each token to its window, in its own view or in the others given.

    Args:
        query: Of tokens that are sorted by window.
        key: In the same order.
        value: In the same order.
        groups: (first token, number of windows, tokens a window) of windows of one size.
        others: For each view of each scene (or of all of them, s = 1) the views that it attends
            to; None for its own.
    """
    if _by_products(query):
        views = [[[i] for i in range(query.shape[1])]] if others is None else others.tolist()
        sources = views * (len(query) // len(views))
        return AttendInWindows.apply(query, key, value, groups, sources)
    results = []
    for start, count, length in groups:
        window = slice(start, start + count * length)
        own = rearrange(query[:, :, window], "b v (w l) c -> (b v) w l c", w=count)
        if others is None:
            keys, values = [
                rearrange(x[:, :, window], "b v (w l) c -> (b v) w l c", w=count)
                for x in (key, value)
            ]
        else:
            keys, values = [
                rearrange(of_views(x, others, window), "b v u (w l) c -> (b v) w (u l) c", w=count)
                for x in (key, value)
            ]
        results.append(F.scaled_dot_product_attention(own, keys, values).flatten(1, 2))
    joined = torch.cat(results, dim=1) if len(results) > 1 else results[0].contiguous()
    return joined.view(query.shape)


def of_views(
    x: Float[Tensor, "b v n c"], views: Int[Tensor, "s v u"], tokens: slice | Tensor
) -> Float[Tensor, "b v u m c"]:
    """Tokens of each view's views, which are given for each scene or for all (s = 1)."""
    scenes = torch.arange(len(x), device=x.device)[:, None, None]
    return x[:, :, tokens][scenes, views]


def _by_products(query: Tensor) -> bool:
    return (
        query.device.type == "cpu"
        and query.dtype in FAST_TYPES
        and not torch.compiler.is_compiling()
    )


class AttendInWindows(torch.autograd.Function):
    """Softmax attention window by window; the weights are computed again in the backward pass.

    ``forward(query, key, value [b, v, n, c], groups, sources) -> [b, v, n, c]``, where
    ``sources[s][i]`` are the views that view i of scene s attends to.
    """

    @staticmethod
    def forward(ctx, query, key, value, groups, sources):
        ctx.save_for_backward(query, key, value)
        ctx.groups, ctx.sources = groups, sources
        result = torch.empty_like(query, memory_format=torch.contiguous_format)
        scale = query.shape[-1] ** -0.5
        for at, views, window in _windows(query, groups, sources):
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
        # Several windows of several views add to one key: sums in float32, whatever its type.
        to_key, to_value = (x.new_zeros(x.shape, dtype=torch.float32) for x in (key, value))
        scale = query.shape[-1] ** -0.5
        for at, views, window in _windows(query, ctx.groups, ctx.sources):
            keys, values = _gather(key[at[0]], views, window), _gather(value[at[0]], views, window)
            for rows in _chunks(window, len(keys)):
                scaled, outer = query[at][rows] * scale, gradient[at][rows]
                weights = linear(scaled, keys).softmax(dim=-1)
                _scatter(to_value[at[0]], views, window, transposed_product(weights, outer))
                logits = linear(outer, values)
                logits = softmax_backward(logits, weights, dim=-1)
                to_query[at][rows] = linear(logits, keys.mT) * scale
                _scatter(to_key[at[0]], views, window, transposed_product(logits, scaled))
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None, None


def _windows(
    query: Tensor, groups: WindowGroups, sources: list[list[list[int]]]
) -> Iterator[tuple[tuple[int, int], list[int], slice]]:
    """(scene, view), the views it attends to, and the window's tokens."""
    for scene, views_of_scene in enumerate(sources):
        for view, views in enumerate(views_of_scene):
            for start, count, length in groups:
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
