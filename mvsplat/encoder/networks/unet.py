"""A small U-Net whose attention joins all views of a scene."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.convolution import Convolution3x3, concatenate, conv1x1, conv3x3
from mvsplat.encoder.cpu.normalization import GroupNorm, group_norm
from mvsplat.encoder.cpu.products import Linear
from mvsplat.encoder.cpu.recomputation import recompute_if, recompute_if_large
from mvsplat.encoder.cpu.sequences import norm_silu, norm_silu_conv

HEAD_CHANNELS = 32


class UNetBlock(nn.Module):
    """Convolution, norm, SiLU, convolution, norm (starting at zero), SiLU, plus the input."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv1 = conv3x3(channels, out_channels)
        self.norm1 = group_norm(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.norm2 = group_norm(out_channels)
        nn.init.zeros_(self.norm2.weight)  # the block starts as its shortcut
        same = channels == out_channels
        self.skip = nn.Identity() if same else conv1x1(channels, out_channels)

    def forward(self, *parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n d h w"]:
        """Of the parts, concatenated."""
        hidden = self.conv1.after(concatenate, *parts)
        hidden = norm_silu_conv(self.norm1, self.conv2, hidden)
        return self._shortcut(*parts) + norm_silu(self.norm2, hidden)

    def _shortcut(self, *parts: Tensor) -> Tensor:
        if len(parts) == 1:
            return self.skip(parts[0])
        return recompute_if_large(lambda *parts: self.skip(concatenate(*parts)), *parts)


class PreNormBlock(UNetBlock):
    """Norm, SiLU, convolution, norm, SiLU, convolution (starting at zero), plus the input."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels)
        self.norm1 = group_norm(channels)
        nn.init.ones_(self.norm2.weight)
        _silence(self.conv2)

    def forward(self, *parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n d h w"]:
        """Of the parts, concatenated."""
        hidden = norm_silu_conv(self.norm1, self.conv1, *parts)
        return self._shortcut(*parts) + norm_silu_conv(self.norm2, self.conv2, hidden)


class MultiViewAttention(nn.Module):
    """Self-attention over all pixels of all views together, plus the input.

    Args:
        channels: Of the maps.
        pre_norm: Normalise the maps before the attention, not what it adds.
    """

    def __init__(self, channels: int, pre_norm: bool):
        super().__init__()
        self.pre_norm = pre_norm
        self.heads = max(1, channels // HEAD_CHANNELS)
        if channels % self.heads:
            raise ValueError(
                f"a U-Net level with attention has width {channels}; "
                f"above {HEAD_CHANNELS} it must be a multiple of {HEAD_CHANNELS}"
            )
        self.qkv = Linear(channels, 3 * channels)
        self.project = Linear(channels, channels)
        self.norm = group_norm(channels)
        if pre_norm:
            _silence(self.project)
        else:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Float[Tensor, "n c h w"], views: int) -> Float[Tensor, "n c h w"]:
        maps = self.norm(x) if self.pre_norm else x
        tokens = rearrange(maps, "(b v) c h w -> b (v h w) c", v=views)
        # The published order of channels: head by head, within a head queries, keys, values.
        parts = rearrange(self.qkv(tokens), "b n (m p c) -> p b m n c", m=self.heads, p=3)
        attended = F.scaled_dot_product_attention(*parts)
        projected = self.project(rearrange(attended, "b m n c -> b n (m c)"))
        maps = rearrange(projected, "b (v h w) c -> (b v) c h w", v=views, h=x.shape[2])
        return x + (maps if self.pre_norm else self.norm(maps))


class Stage(nn.Module):
    """A residual block and, on some levels, attention."""

    def __init__(self, channels: int, out_channels: int, attention: bool, pre_norm: bool):
        super().__init__()
        block = PreNormBlock if pre_norm else UNetBlock
        self.residual = block(channels, out_channels)
        self.attention = MultiViewAttention(out_channels, pre_norm) if attention else None

    def forward(self, views: int, *parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n d h w"]:
        x = self.residual(*parts)
        return x if self.attention is None else self.attention(x, views)


class UNet(nn.Module):
    """One residual block a level going down, two in the middle, two a level going up.

    Args:
        widths: Channels of each level, from full resolution down; each halves the size.
        attention: Down-sampling factors of the levels that have attention.
        checkpointing: Recompute the blocks' activations in the backward pass, block by block.
        pre_norm: Normalise what enters a convolution or attention, not what leaves it.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        attention: tuple[int, ...],
        checkpointing: bool = False,
        pre_norm: bool = False,
    ):
        super().__init__()
        self.checkpointing = checkpointing
        self.pre_norm = pre_norm
        attends = [2**level in attention for level in range(len(widths))]
        current, skips = widths[0], [widths[0]]
        self.stem = conv3x3(current, current)
        self.down, self.reduce = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            if level > 0:
                self.reduce.append(conv3x3(current, current, stride=2))
                skips.append(current)
            self.down.append(Stage(current, width, attends[level], pre_norm))
            skips.append(width)
            current = width
        block = PreNormBlock if pre_norm else UNetBlock
        self.middle = nn.Sequential(block(current, current), block(current, current))
        self.up, self.expand = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(2):
                self.up.append(Stage(current + skips.pop(), width, attends[level], pre_norm))
                current = width
            if level > 0:
                self.expand.append(conv3x3(width, width))
        last = conv3x3(current, widths[0])
        if pre_norm:
            _silence(last)
            self.out = nn.Sequential(group_norm(current), nn.SiLU(), last)
        else:
            self.out = nn.Sequential(last, group_norm(widths[0]), nn.SiLU())

    def forward(self, x: Float[Tensor, "n c h w"], views: int) -> Float[Tensor, "n c h w"]:
        x = self.stem(x)
        skips = [x]
        for level, stage in enumerate(self.down):
            if level > 0:
                x = self.reduce[level - 1](x)
                skips.append(x)
            x = recompute_if(self.checkpointing, stage, views, x)
            skips.append(x)
        for block in self.middle:
            x = recompute_if(self.checkpointing, block, x)
        for index, stage in enumerate(self.up):
            x = recompute_if(self.checkpointing, stage, views, x, skips.pop())
            # After a level's two stages, the next one's size.
            if index % 2 == 1 and index // 2 < len(self.expand):
                expand = self.expand[index // 2]
                assert isinstance(expand, Convolution3x3)
                x = expand.of_doubled(x)
        if self.pre_norm:
            norm, _, convolution = self.out
            assert isinstance(norm, GroupNorm) and isinstance(convolution, Convolution3x3)
            return norm_silu_conv(norm, convolution, x)
        convolution, norm, _ = self.out
        return norm_silu(norm, convolution(x))


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    """What ends a branch starts at zero."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
