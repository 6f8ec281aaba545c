"""Small layers that several networks share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mvsplat.encoder.cpu.convolution import Convolution3x3, concatenate, conv3x3
from mvsplat.encoder.cpu.recomputation import WORTH_RECOMPUTING


def group_norm(channels: int, groups: int = 8) -> "GroupNorm":
    """Group norm with as many groups as divide the channels, at most ``groups``."""
    while channels % groups:
        groups //= 2
    return GroupNorm(groups, channels)


class GroupNorm(nn.GroupNorm):
    """Group norm; on the CPU in float32, since torch's gradient in bf16 is four times as slow."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.of(x, self.weight, self.bias)

    def of(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """With this scale and offset in place of its own."""
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            return self.of(x.float(), weight.float(), bias.float()).to(x.dtype)
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def gelu(x: Tensor) -> Tensor:
    """GELU, in place where nothing is recorded; ``x`` must not be used afterwards."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where nothing is recorded; ``x`` must not be used afterwards."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def normalized_silu(norm: GroupNorm, convolution: Convolution3x3, x: Tensor) -> Tensor:
    """A convolution of the SiLU of a group norm."""

    def prepare(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return silu(norm.of(x, weight, bias))

    return convolution.of(prepare, x, norm.weight, norm.bias)


def relu(x: Tensor) -> Tensor:
    """ReLU in place; ``x`` must not be used afterwards."""
    return F.relu(x, inplace=True)


class Head(nn.Sequential):
    """3x3 convolution, GELU, 3x3 convolution.

    Args:
        channels: Of the joined parts.
        hidden: Channels between the convolutions.
        out_channels: Channels of the result.
        join: Makes one map of the parts, by cheap operations.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        out_channels: int,
        join: Callable[..., Tensor] = concatenate,
    ):
        super().__init__(conv3x3(channels, hidden), nn.GELU(), conv3x3(hidden, out_channels))
        self.join = join

    def forward(self, *parts: Float[Tensor, "n _ _ _"]) -> Float[Tensor, "n d h w"]:
        """Of the parts, joined; of large images one after the other, in less memory."""
        if parts[0].device.type == "cpu" and parts[0][0].numel() >= WORTH_RECOMPUTING:
            images = zip(*(part.split(1) for part in parts))
            return torch.cat([self._apply_once(*image) for image in images])
        return self._apply_once(*parts)

    def _apply_once(self, *parts: Tensor) -> Tensor:
        first, _, last = self
        assert isinstance(first, Convolution3x3) and isinstance(last, Convolution3x3)
        return last.of(gelu, first.of(self.join, *parts))


class NormalizeAndRectify(torch.autograd.Function):
    """Instance norm in plain steps, and optionally ReLU; keeps its input only.

    ``forward(x [n, c, h, w], rectify) -> [n, c, h, w]`` of x's type, computed in float32.
    """

    @staticmethod
    def forward(ctx, x: Tensor, rectify: bool) -> Tensor:
        normalised, mean, scale = _normalise(x)
        ctx.save_for_backward(x, mean, scale)
        ctx.rectify = rectify
        return (normalised.relu_() if rectify else normalised).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        x, mean, scale = ctx.saved_tensors
        normalised = (x.float() - mean).mul_(scale)
        gradient = gradient.float()
        if ctx.rectify:
            gradient = gradient * (normalised > 0)
        along = (gradient * normalised).mean(dim=(2, 3), keepdim=True)
        result = gradient - gradient.mean(dim=(2, 3), keepdim=True)
        return result.addcmul_(normalised, along, value=-1).mul_(scale).to(x.dtype), None


def _normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.float().mean(dim=(2, 3), keepdim=True)
    centred = x.float() - mean
    scale = (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5).rsqrt()
    return centred.mul_(scale), mean, scale


class InstanceNorm(nn.Module):
    """Instance norm without parameters, then ReLU if asked for.

    On the CPU in plain steps, which keep the channels-last format and give the same digits on any
    number of threads. torch's instance norm copies there; its batch norm, used in its place, loses
    digits on several threads, which the ReLUs behind it make visible in gradients.
    """

    def forward(
        self, x: Float[Tensor, "n c h w"], rectify: bool = False
    ) -> Float[Tensor, "n c h w"]:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return NormalizeAndRectify.apply(x, rectify)
        normalised = F.instance_norm(x)
        return relu(normalised) if rectify else normalised


def upsample(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear upsampling with aligned corners."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
