"""Small layers that several networks share."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Elements from which recomputing cheap operations saves more than it costs.
WORTH_RECOMPUTING = 1 << 20


def conv3x3(channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (divided by the stride)."""
    return nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=bias)


def group_norm(channels: int, groups: int = 8) -> nn.GroupNorm:
    """Group norm with as many groups as divide the channels, at most ``groups``."""
    while channels % groups:
        groups //= 2
    return nn.GroupNorm(groups, channels)


def cheaply(function: Callable, *tensors: Tensor) -> Any:
    """Call a function of cheap operations, of which the last may be a convolution or product.

    Where large tensors are recorded for the backward pass, only the arguments are kept, and the
    cheap operations run again there (not the last: recomputing stops when its input is known).
    """
    if torch.is_grad_enabled() and max(x.numel() for x in tensors) >= WORTH_RECOMPUTING:
        return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return function(*tensors)


def maybe_checkpoint(enabled: bool, function: Callable, *arguments: Any) -> Any:
    """Call ``function``; if enabled and gradients are recorded, forget its activations."""
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)


def linear(
    x: Float[Tensor, "*batch n c"], weight: Float[Tensor, "d c"], bias: Tensor | None = None
) -> Float[Tensor, "*batch n d"]:
    """``F.linear``, on the CPU as a 1x1 convolution.

    There PyTorch sends convolutions to oneDNN, which is up to three times as fast as the default
    BLAS; with one thread it does so from 16 images on.
    """
    rows = x.numel() // x.shape[-1]
    if x.device.type != "cpu" or rows == 0:
        return F.linear(x, weight, bias)
    images = 16 if rows % 16 == 0 else 1
    pixels = x.reshape(images, rows // images, 1, -1).permute(0, 3, 1, 2)
    result = F.conv2d(pixels, weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """A linear layer by :func:`linear`."""

    def forward(self, x: Float[Tensor, "*batch n c"]) -> Float[Tensor, "*batch n d"]:
        return linear(x, self.weight, self.bias)


def gelu(x: Tensor) -> Tensor:
    """GELU, in place where no gradient is recorded; ``x`` must not be used afterwards."""
    return F.gelu(x) if x.requires_grad else torch.ops.aten.gelu_(x)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient is recorded; ``x`` must not be used afterwards."""
    return F.silu(x, inplace=not x.requires_grad)


def relu(x: Tensor) -> Tensor:
    """ReLU in place; ``x`` must not be used afterwards."""
    return F.relu(x, inplace=True)


class Head(nn.Sequential):
    """3x3 convolution, GELU, 3x3 convolution."""

    def __init__(self, channels: int, hidden: int, out_channels: int):
        super().__init__(conv3x3(channels, hidden), nn.GELU(), conv3x3(hidden, out_channels))

    def forward(self, *parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n d h w"]:
        """Of the parts, concatenated."""
        first, _, last = self
        hidden = cheaply(lambda *parts: first(concatenate(*parts)), *parts)
        return cheaply(lambda x: last(gelu(x)), hidden)


def concatenate(*parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n c h w"]:
    """Channels of maps, in the last one's type."""
    return torch.cat([part.to(parts[-1].dtype) for part in parts], dim=1)


class InstanceNorm(nn.Module):
    """Instance norm without parameters.

    On the CPU in plain steps, which keep the channels-last format and give the same digits on any
    number of threads. torch's instance norm copies there; its batch norm, used in its place, loses
    digits on several threads, which the ReLUs behind it make visible in gradients.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if x.device.type != "cpu":
            return F.instance_norm(x)
        centred = x.float() - x.float().mean(dim=(2, 3), keepdim=True)
        variance = centred.square().mean(dim=(2, 3), keepdim=True)
        return (centred * (variance + 1e-5).rsqrt()).to(x.dtype)


def upsample(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear upsampling with aligned corners."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
