"""The DPT head (Ranftl et al., 2021) that joins a ViT's layers with other features."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu
from mvsplat.encoder.cpu.convolution import concatenate, conv1x1, conv3x3
from mvsplat.encoder.networks.layers import Head, resize

# What becomes of the layers' maps, at 1/8: 1/2, 1/4, 1/8 and 1/16 of the image's size.
LEVELS = 4


class ResidualUnit(nn.Module):
    """ReLU and convolution, twice, plus the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x + self.conv2.after(F.relu, self.conv1.after(F.relu, x))


class Fusion(nn.Module):
    """What comes from below, with this level's features added, refined and enlarged.

    Args:
        channels: Of all maps.
        skip: Whether there are this level's features.
    """

    def __init__(self, channels: int, skip: bool):
        super().__init__()
        self.skip = ResidualUnit(channels) if skip else None
        self.refine = ResidualUnit(channels)
        self.project = conv1x1(channels, channels)

    def forward(
        self, size: tuple[int, int], *maps: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h2 w2"]:
        x = maps[0]
        if self.skip is not None:
            x = x + self.skip(maps[1])
        # A linear map of the channels comes to the same before resizing, and is cheaper there.
        return resize(self.project(self.refine(x)), size)


class DPTHead(nn.Module):
    """Features at full resolution from four layers of a ViT and other features.

    Args:
        vit_width: Channels of the ViT's maps.
        inner_widths: Channels that they are reduced to, from the first layer to the last.
        joined: Channels of the other features that join them at 1/2, 1/4 and 1/8.
        channels: Of the result.
    """

    def __init__(
        self,
        vit_width: int,
        inner_widths: tuple[int, ...],
        joined: tuple[int, ...],
        channels: int,
    ):
        super().__init__()
        fine, middle, coarse, last = inner_widths
        self.reduce = nn.ModuleList(conv1x1(vit_width, width) for width in inner_widths)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(fine, fine, 4, stride=4),
                nn.ConvTranspose2d(middle, middle, 2, stride=2),
                nn.Identity(),
                conv3x3(last, last, stride=2),
            ]
        )
        self.join = nn.ModuleList(
            conv1x1(width + extra, width) for width, extra in zip(inner_widths, joined)
        )
        self.project = nn.ModuleList(conv3x3(width, channels, bias=False) for width in inner_widths)
        self.fuse = nn.ModuleList(Fusion(channels, level < LEVELS - 1) for level in range(LEVELS))

    def forward(
        self, layers: list[Float[Tensor, "n v h8 w8"]], others: list[list[Tensor]]
    ) -> Float[Tensor, "n c h w"]:
        """Features of all pixels.

        Args:
            layers: The ViT's maps at 1/8.
            others: The maps that join them at 1/2, at 1/4 and at 1/8, in this order.
        """
        maps = [self.resize[i](self.reduce[i](layer)) for i, layer in enumerate(layers)]
        for level, extra in enumerate(others):
            maps[level] = self.join[level](concatenate(maps[level], *extra))
        maps = [project(x) for project, x in zip(self.project, maps)]
        rows, columns = layers[0].shape[2:]
        x = maps[-1]
        for level in reversed(range(LEVELS)):
            factor = 2 ** (LEVELS - 1 - level)
            size = (rows * factor, columns * factor)
            skips = maps[level : level + 1] if level < LEVELS - 1 else []
            x = self.fuse[level](size, x, *skips)
        return x


class OffsetHead(nn.Module):
    """From features to a number a pixel, at first zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = Head(channels, channels // 2, 16, padding="replicate")
        self.last = conv1x1(16, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
        return self.last(gelu(self.head(features)))
