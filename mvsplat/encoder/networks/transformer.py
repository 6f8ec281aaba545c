"""The multi-view transformer: tokens attend to windows of their own and the other views."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu
from mvsplat.encoder.cpu.products import Linear, linear
from mvsplat.encoder.cpu.recomputation import recompute_if, recompute_if_large
from mvsplat.encoder.networks.attention import attend_others, attend_self, attend_tiled
from mvsplat.encoder.networks.neighbours import checked, neighbours
from mvsplat.encoder.networks.windows import (
    WindowLayout,
    position_encoding,
    rolled_windows,
    window_layout,
)
from mvsplat.types import Views


class AttentionUpdate(nn.Module):
    """What follows attention in a layer: projection, norm, an optional feed-forward, residual.

    GMFlow's code, and so the names of our weights, call what is added to the tokens the message.
    Attention with one head only weights the values, so whoever projects them applies the
    projection that follows it, too, by :meth:`merged`.
    """

    def __init__(self, channels: int, expansion: int | None):
        super().__init__()
        self.merge = Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = None
        if expansion is not None:
            self.feed_forward = nn.Sequential(
                Linear(2 * channels, 2 * channels * expansion, bias=False),
                nn.GELU(),
                Linear(2 * channels * expansion, channels, bias=False),
                nn.LayerNorm(channels),
            )

    @property
    def last_norm(self) -> nn.Module:
        """The norm whose output is added to the tokens."""
        return self.norm if self.feed_forward is None else self.feed_forward[-1]

    def merged(self, to_value: Float[Tensor, "c d"]) -> Float[Tensor, "c d"]:
        """Weights that give values and project what comes of them, in one."""
        return self.merge.weight @ to_value

    def forward(
        self, tokens: Float[Tensor, "*batch n c"], attended: Float[Tensor, "*batch n c"]
    ) -> Float[Tensor, "*batch n c"]:
        """``attended`` is the attention's result for values that are :meth:`merged`."""
        if self.feed_forward is None:
            return tokens + self.norm(attended)
        return tokens + self.feed_forward[-1](recompute_if_large(self._narrowed, tokens, attended))

    def _narrowed(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """The feed-forward but for its norm."""
        assert self.feed_forward is not None
        widen, _, narrow, _ = self.feed_forward
        message = self.norm(attended)
        # In mixed precision tokens stay in float32, and would widen what they are joined with.
        return narrow(gelu(widen(torch.cat([tokens.to(message.dtype), message], dim=-1))))


class TransformerBlock(nn.Module):
    """Self-attention, then cross-attention to all other views with a feed-forward.

    Keys and values of the cross-attention come from the block's input. With one head as wide as the
    tokens, (W_q x) . (W_k y) = (W_k^T W_q x) . y: keys are the tokens themselves, and of the eight
    projections of a block four are left.

    Args:
        channels: Width of the tokens.
        expansion: Hidden width of the feed-forward over its input's width.
        cross_view: Without it, a block is one self-attention with the feed-forward.
    """

    def __init__(self, channels: int, expansion: int, cross_view: bool):
        super().__init__()
        self.cross_view = cross_view
        self.project = Linear(channels, (5 if cross_view else 3) * channels, bias=False)
        self.self_message = AttentionUpdate(channels, None if cross_view else expansion)
        if cross_view:
            self.query = Linear(channels, channels, bias=False)
            self.cross_message = AttentionUpdate(channels, expansion)

    @property
    def joint_projections(self) -> tuple[nn.Linear, ...]:
        """Linear layers that are several square matrices in one, each initialised for itself."""
        return (self.project,)

    @property
    def updates(self) -> tuple[AttentionUpdate, ...]:
        """What follows each of its attentions."""
        return (self.self_message, self.cross_message) if self.cross_view else (self.self_message,)

    def forward(
        self,
        tokens: Float[Tensor, "b v n c"],
        layout: WindowLayout,
        others: Int[Tensor, "s v u"],
        rolled: Any = None,
    ) -> Float[Tensor, "b v n c"]:
        channels = tokens.shape[-1]
        of_input, to_query = self._projections()
        query, value, *crossing = linear(tokens, of_input).split(channels, dim=-1)
        key = tokens.to(query.dtype)
        tokens = self.self_message(tokens, attend_self(query, key, value, layout))
        if not self.cross_view:
            return tokens
        query = linear(tokens, to_query)
        if rolled is None:
            attended = attend_others(query, key, crossing[0], layout, others)
        else:
            attended = attend_tiled(query, key, crossing[0], layout, others, rolled)
        return self.cross_message(tokens, attended)

    def _projections(self) -> tuple[Float[Tensor, "m c"], Float[Tensor, "n c"]]:
        """Weights of what the block's input gives, and of the cross-attention's queries.

        The former are the self-attention's queries and values, then the cross-attention's values.
        """
        # Products of weights in mixed precision would be rounded twice.
        with torch.autocast(self.project.weight.device.type, enabled=False):
            query, key, value, *crossing = self.project.weight.split(self.project.in_features)
            of_input = [key.mT @ query, self.self_message.merged(value)]
            if not self.cross_view:
                return torch.cat(of_input), query.new_empty(0, query.shape[1])
            cross_key, cross_value = crossing
            of_input.append(self.cross_message.merged(cross_value))
            return torch.cat(of_input), cross_key.mT @ self.query.weight


class MultiViewTransformer(nn.Module):
    """GMFlow's windowed transformer (Xu et al., 2022) between any number of views.

    Args:
        channels: Width of the tokens.
        blocks: Number of blocks; every second one has shifted windows.
        splits: The map is cut into ``splits`` x ``splits`` windows.
        expansion: Hidden width of the feed-forward over its input's width.
        cross_view: Attend to other views.
        tiled_mask: With more than two views, mask shifted cross-attention as the published code.
        checkpointing: Recompute the blocks' activations in the backward pass.
        nearest_views: How many other views a view attends to, see :func:`neighbours`.
    """

    def __init__(
        self,
        channels: int,
        blocks: int,
        splits: int,
        expansion: int,
        cross_view: bool,
        tiled_mask: bool,
        checkpointing: bool,
        nearest_views: int | None = None,
    ):
        super().__init__()
        self.nearest_views = checked(nearest_views)
        self.splits = splits
        self.tiled_mask = tiled_mask
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, expansion, cross_view) for _ in range(blocks)
        )

    def forward(
        self, features: Float[Tensor, "b v c h w"], views: Views
    ) -> Float[Tensor, "b v c h w"]:
        channels, height, width = features.shape[2:]
        tokens = rearrange(features, "b v c h w -> b v (h w) c")
        tokens = tokens + position_encoding(height, width, self.splits, channels, features.device)
        others = neighbours(views, self.nearest_views)
        order = None
        for index, block in enumerate(self.blocks):
            layout, rolled = self._windows(index, features)
            # From the last block's order straight to this one's: one gather a block.
            tokens = tokens[:, :, layout.order if order is None else order[layout.order]]
            order = layout.inverse
            tokens = recompute_if(self.checkpointing, block, tokens, layout, others, rolled)
        if order is not None:
            tokens = tokens[:, :, order]
        return rearrange(tokens, "b v (h w) c -> b v c h w", h=height)

    def _windows(self, index: int, features: Tensor) -> tuple[WindowLayout, Any]:
        views, _, height, width = features.shape[1:]
        shifted = index % 2 == 1 and self.splits > 1
        layout = window_layout(height, width, self.splits, shifted, features.device)
        if shifted and self.tiled_mask and views > 2:
            return layout, rolled_windows(height, width, self.splits, features.device)
        return layout, None
