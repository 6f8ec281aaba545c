"""Matrix products, arranged so that they run fast on the CPU.

There PyTorch leaves convolutions to oneDNN, which is up to three times as fast as the BLAS that it
comes with: products are computed as 1x1 convolutions. On other devices they are the ordinary ones.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def linear(
    x: Float[Tensor, "*batch n c"], weight: Float[Tensor, "d c"], bias: Tensor | None = None
) -> Float[Tensor, "*batch n d"]:
    """``F.linear``, on the CPU in float32 as a 1x1 convolution, which oneDNN computes."""
    rows = x.numel() // x.shape[-1]
    if not in_float32_on_cpu(x) or rows == 0:
        return F.linear(x, weight, bias)
    # With one thread, oneDNN takes its fast kernel for 16 images, not for one.
    images = 16 if rows % 16 == 0 else 1
    pixels = x.reshape(images, rows // images, 1, -1).permute(0, 3, 1, 2)
    result = F.conv2d(pixels, weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def transposed_product(x: Float[Tensor, "n c"], y: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
    """``x.mT @ y``; on the CPU in float32 as the gradient of a 1x1 convolution's weight."""
    if not in_float32_on_cpu(x) or len(x) == 0:
        return x.mT @ y
    images = 4 if len(x) % 4 == 0 else 1
    outer, inner = (
        part.reshape(images, len(x) // images, 1, -1).permute(0, 3, 1, 2) for part in (x, y)
    )
    # Only its shape is read.
    weight = x.new_empty(x.shape[1], y.shape[1], 1, 1)
    return convolution_gradient(outer, inner, weight, (0, 0), of_weight=True)[:, :, 0, 0]


class Linear(nn.Linear):
    """A linear layer by :func:`linear`."""

    def forward(self, x: Float[Tensor, "*batch n c"]) -> Float[Tensor, "*batch n d"]:
        return linear(x, self.weight, self.bias)


def convolution_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], of_weight: bool
) -> Tensor:
    """torch's own gradient of a convolution's weight, or else of its input."""
    which = [not of_weight, of_weight, False]
    results = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], list(padding), [1, 1], False, [0, 0], 1, which
    )
    return results[int(of_weight)]


def in_float32_on_cpu(x: Tensor) -> bool:
    """Whether products of ``x`` are computed on the CPU in float32, not in mixed precision."""
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )
