"""Small layers that several networks share."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def conv3x3(channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (divided by the stride)."""
    return nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=bias)


def group_norm(channels: int, groups: int = 8) -> nn.GroupNorm:
    """Group norm with as many groups as divide the channels, at most ``groups``."""
    while channels % groups:
        groups //= 2
    return nn.GroupNorm(groups, channels)


def maybe_checkpoint(enabled: bool, function: Callable, *arguments: Any) -> Any:
    """Call ``function``; if enabled and gradients are recorded, forget its activations until then."""
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)


class Linear(nn.Linear):
    """A linear layer that runs as a 1x1 convolution in float32 on the CPU.

    There PyTorch sends convolutions to oneDNN, which is up to twice as fast as the default BLAS.
    """

    def forward(self, x: Float[Tensor, "*batch n c"]) -> Float[Tensor, "*batch n d"]:
        if x.device.type != "cpu" or x.numel() == 0:
            return super().forward(x)
        pixels = x.reshape(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
        result = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


class InstanceNorm(nn.Module):
    """Instance norm without parameters.

    On the CPU as a batch norm of each image alone: that kernel knows the channels-last format, where
    instance norm copies and a group norm of single channels loses two digits of its gradient.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if x.device.type != "cpu":
            return F.instance_norm(x)
        return torch.cat([F.batch_norm(one, None, None, training=True) for one in x.split(1)])


def upsample(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear upsampling with aligned corners."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
