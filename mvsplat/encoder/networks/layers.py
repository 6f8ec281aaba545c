"""Small layers that several networks share."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu
from mvsplat.encoder.cpu.convolution import Convolution3x3, concatenate, conv3x3
from mvsplat.encoder.cpu.recomputation import one_by_one_if_large


class Head(nn.Sequential):
    """3x3 convolution, GELU, 3x3 convolution.

    Args:
        channels: Of the joined parts.
        hidden: Channels between the convolutions.
        out_channels: Channels of the result.
        join: Makes one map of the parts, by cheap operations.
        padding: Of both convolutions.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        out_channels: int,
        join: Callable[..., Tensor] = concatenate,
        padding: Literal["zeros", "replicate"] = "zeros",
    ):
        super().__init__(
            conv3x3(channels, hidden, padding=padding),
            nn.GELU(),
            conv3x3(hidden, out_channels, padding=padding),
        )
        self.join = join

    def forward(self, *parts: Float[Tensor, "n _ _ _"]) -> Float[Tensor, "n d h w"]:
        """Of the parts, joined."""
        return one_by_one_if_large(self._of_images, *parts)

    def _of_images(self, *parts: Tensor) -> Tensor:
        first, _, last = self
        assert isinstance(first, Convolution3x3) and isinstance(last, Convolution3x3)
        return last.after(gelu, first.after(self.join, *parts))


class Doubling(nn.Sequential):
    """Half the channels at twice the resolution."""

    def __init__(self, channels: int):
        half = channels // 2
        super().__init__(
            nn.ConvTranspose2d(channels, half, 2, stride=2), nn.GELU(), conv3x3(half, half)
        )


def upsample(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear upsampling with aligned corners."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def resize(x: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear resizing with aligned corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
