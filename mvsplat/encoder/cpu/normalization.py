"""Group norm and instance norm, arranged so that they run fast on the CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mvsplat.encoder.cpu.activations import relu


def group_norm(channels: int, groups: int = 8) -> "GroupNorm":
    """Group norm with as many groups as divide the channels, at most ``groups``."""
    while channels % groups:
        groups //= 2
    return GroupNorm(groups, channels)


class GroupNorm(nn.GroupNorm):
    """Group norm; on the CPU in float32, since torch's gradient in bf16 is four times as slow."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.normalize_with(x, self.weight, self.bias)

    def normalize_with(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """With this scale and offset in place of its own."""
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            return self.normalize_with(x.float(), weight.float(), bias.float()).to(x.dtype)
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


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
        # Cheaper to compute again than to keep in float32.
        normalised = (x.float() - mean).mul_(scale)
        gradient = gradient.float()
        if ctx.rectify:
            gradient = gradient * (normalised > 0)
        along = (gradient * normalised).mean(dim=(2, 3), keepdim=True)
        result = gradient - gradient.mean(dim=(2, 3), keepdim=True)
        return result.addcmul_(normalised, along, value=-1).mul_(scale).to(x.dtype), None


def _normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.float().mean(dim=(2, 3), keepdim=True)
    # Centred before it is squared: a difference of means of squares would cancel digits.
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
