"""Attention inside windows, to the token's own view or to all others.

Tokens are in the order of a :class:`WindowLayout`, so that a window is a run of tokens.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.encoder.cpu.attention import attend_in_windows, of_views
from mvsplat.encoder.networks.windows import WindowLayout


def attend_self(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
) -> Float[Tensor, "b v n c"]:
    """Attention of each token to its own window of its own view."""
    return attend_in_windows(query, key, value, layout.groups)


def attend_others(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
    others: Int[Tensor, "s v u"],
) -> Float[Tensor, "b v n c"]:
    """Attention of each token to its window in other views, by :func:`other_views`."""
    return attend_in_windows(query, key, value, layout.groups, others)


def attend_tiled(
    query: Float[Tensor, "b v n c"],
    key: Float[Tensor, "b v n c"],
    value: Float[Tensor, "b v n c"],
    layout: WindowLayout,
    others: Int[Tensor, "s v u"],
    rolled: tuple[Int[Tensor, "w l"], Float[Tensor, "w l l"]],
) -> Float[Tensor, "b v n c"]:
    """The published shifted cross-attention: keys token by token, the mask tiled view by view."""
    result = torch.empty_like(query)
    # Window by window: the mask is as large as its keys, and differs between windows.
    for order, mask in zip(*rolled):
        tokens = layout.inverse[order]
        own = rearrange(query[:, :, tokens], "b v l c -> (b v) 1 l c")
        keys, values = [
            rearrange(of_views(x, others, tokens), "b v u l c -> (b v) 1 (l u) c")
            for x in (key, value)
        ]
        bias = mask.to(own.dtype).repeat(1, others.shape[2])[None, None]
        attended = F.scaled_dot_product_attention(own, keys, values, attn_mask=bias)
        result[:, :, tokens] = attended.view(*query.shape[:2], *attended.shape[2:])
    return result
