"""Norm, activation and convolution in a row; the backward pass keeps the first input only."""

from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu, silu
from mvsplat.encoder.cpu.convolution import Convolution3x3, concatenate
from mvsplat.encoder.cpu.normalization import GroupNorm
from mvsplat.encoder.cpu.recomputation import recompute_if_large


def norm_silu(norm: nn.Module, x: Tensor) -> Tensor:
    """The SiLU of a group norm."""
    return recompute_if_large(lambda x: silu(norm(x)), x)


def norm_gelu(norm: nn.Module, x: Tensor) -> Tensor:
    """The GELU of a group norm."""
    return recompute_if_large(lambda x: gelu(norm(x)), x)


def norm_silu_conv(norm: GroupNorm, conv: Convolution3x3, *parts: Tensor) -> Tensor:
    """A convolution of the SiLU of a group norm of parts, concatenated."""

    # The norm's parameters are arguments, because what the convolution prepares sends gradients to
    # its arguments only.
    def prepare(*tensors: Tensor) -> Tensor:
        *parts, weight, bias = tensors
        x = concatenate(*parts) if len(parts) > 1 else parts[0]
        return silu(norm.normalize_with(x, weight, bias))

    return conv.after(prepare, *parts, norm.weight, norm.bias)
