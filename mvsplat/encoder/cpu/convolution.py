"""Convolutions, arranged so that they run fast on the CPU.

There PyTorch leaves them to oneDNN, whose gradient of the weights runs at half the speed of the
rest on large images where the channels do not fill its vectors. On other devices these are the
ordinary operations.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mvsplat.encoder.cpu.products import convolution_gradient, in_float32_on_cpu
from mvsplat.encoder.cpu.recomputation import recompute_if_large

# Pixels of a strip, for which all that a thread reads stays in its cache.
STRIP_PIXELS = 4096
# Smaller images are not worth cutting.
LARGE_PIXELS = 4 * STRIP_PIXELS
# Fewer pixels of all maps together are not worth sums of weights.
SMALL_PIXELS = 512
# Channels come in multiples of this; zeros fill up.
VECTOR = 16


def conv3x3(
    channels: int,
    out_channels: int,
    stride: int = 1,
    bias: bool = True,
    padding: Literal["zeros", "replicate"] = "zeros",
) -> "Convolution3x3":
    """A 3x3 convolution that keeps the size (divided by the stride).

    Args:
        channels: Of its input.
        out_channels: Of its output.
        stride: Along both axes.
        bias: Whether it has one.
        padding: What is beyond the border: zeros, or the pixels at it.
    """
    return Convolution3x3(
        channels, out_channels, 3, stride, padding=1, bias=bias, padding_mode=padding
    )


def conv1x1(channels: int, out_channels: int, stride: int = 1) -> "Convolution1x1":
    """A linear map of each pixel's channels, of every ``stride``-th pixel along each axis."""
    return Convolution1x1(channels, out_channels, 1, stride)


class Convolution1x1(nn.Conv2d):
    """A 1x1 convolution that leaves its stride to indexing.

    With a stride, oneDNN (3.12 and earlier) writes past its buffer in the gradient of the weights
    of images in the channels-last format whose channels do not fill a vector.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


class Convolution3x3(nn.Conv2d):
    """A 3x3 convolution with padding; on the CPU with a faster gradient on large images."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.after(_unchanged, x)

    def after(self, prepare: Callable[..., Tensor], *tensors: Tensor) -> Float[Tensor, "n d h w"]:
        """The convolution of ``prepare(*tensors)``, which the backward pass computes again.

        Args:
            prepare: Cheap operations; all that gets a gradient must be among its arguments.
            tensors: Its arguments, maps first.
        """
        x = tensors[0]
        if (
            torch.is_grad_enabled()
            and self.stride == (1, 1)
            and self.padding_mode == "zeros"
            and self.out_channels % VECTOR
            and in_float32_on_cpu(x)
            and not torch.compiler.is_compiling()
            and x.shape[2] * x.shape[3] >= LARGE_PIXELS
        ):
            return ConvolveInStrips.apply(prepare, self.weight, self.bias, *tensors)
        return recompute_if_large(
            lambda *tensors: nn.Conv2d.forward(self, prepare(*tensors)), *tensors
        )

    def of_doubled(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """The convolution of a map at twice its size, where each pixel stands four times.

        A pixel then meets some of the weights together: their sums are a transposed convolution of
        4/9 of the work. Making the sums costs more than that on small maps.
        """
        few = x.numel() < SMALL_PIXELS * x.shape[1]
        if few or x.device.type != "cpu" or self.stride != (1, 1) or self.padding_mode != "zeros":
            return self.after(_double, x)
        rows = self.weight.flip(2, 3)
        rows = F.pad(rows, (0, 0, 0, 1)) + F.pad(rows, (0, 0, 1, 0))
        both = F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
        return F.conv_transpose2d(x, both.transpose(0, 1), self.bias, stride=2, padding=1)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _double(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class ConvolveInStrips(torch.autograd.Function):
    """3x3 convolution of what cheap operations prepare; sums the weights' gradient over strips.

    ``forward(prepare, weight [d, c, 3, 3], bias [d] or None, *tensors) -> [n, d, h, w]``.
    """

    @staticmethod
    def forward(ctx, prepare, weight: Tensor, bias: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(weight, *tensors)
        ctx.prepare = prepare
        # What is prepared in place where gradients are off would change what is kept.
        with torch.enable_grad():
            x = prepare(*(tensor.detach() for tensor in tensors))
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *tensors = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        _, of_weight, of_bias, *needed = ctx.needs_input_grad
        with torch.enable_grad():
            tensors = [x.detach().requires_grad_(n) for x, n in zip(tensors, needed)]
            x = ctx.prepare(*tensors)
        to_tensors: list[Tensor | None] = [None] * len(tensors)
        if any(needed):
            to_x = convolution_gradient(gradient, x.detach(), weight, (1, 1), of_weight=False)
            wanted = [tensor for tensor in tensors if tensor.requires_grad]
            found = iter(torch.autograd.grad(x, wanted, to_x, retain_graph=False))
            to_tensors = [next(found) if n else None for n in needed]
        return (
            None,
            _gradient_of_weight(gradient, x.detach(), weight) if of_weight else None,
            gradient.sum(dim=(0, 2, 3)) if of_bias else None,
            *to_tensors,
        )


def _gradient_of_weight(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows = max(1, STRIP_PIXELS // width)
    out_channels, channels = (n + -n % VECTOR for n in weight.shape[:2])
    padded = weight.new_empty(out_channels, channels, 3, 3)
    total = torch.zeros_like(padded)
    for image, outer in zip(x.split(1), gradient.split(1)):
        for top in range(0, height, rows):
            # A row more above and below; zeros beyond the image.
            bottom = min(top + rows, height)
            above, below = max(top - 1, 0), min(bottom + 1, height)
            strip = _pad(image[:, :, above:below], channels, above - top + 1, bottom + 1 - below)
            outer_strip = _pad(outer[:, :, top:bottom], out_channels, 0, 0)
            total += convolution_gradient(outer_strip, strip, padded, (0, 1), of_weight=True)
    return total[: weight.shape[0], : weight.shape[1]]


def _pad(x: Float[Tensor, "n c h w"], channels: int, top: int, bottom: int) -> Tensor:
    """Zeros to this many channels, and rows of zeros."""
    missing = channels - x.shape[1]
    if not (missing or top or bottom):
        return x
    return F.pad(x.permute(0, 2, 3, 1), (0, missing, 0, 0, top, bottom)).permute(0, 3, 1, 2)


def concatenate(*parts: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n c h w"]:
    """Channels of maps, in the shortest of their types and in the channels-last format.

    Written with the channels' axis last, torch copies them five times as fast.
    """
    short = [part.dtype for part in parts if part.dtype.itemsize < parts[0].dtype.itemsize]
    dtype = short[0] if short else parts[0].dtype
    pixels = [part.to(dtype).permute(0, 2, 3, 1) for part in parts]
    return torch.cat(pixels, dim=-1).permute(0, 3, 1, 2)
