"""Activations in place where nothing is recorded, which saves a map's memory and a pass over it.

Their argument must not be used afterwards.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """GELU, in place where nothing is recorded."""
    # torch.nn.functional has no GELU in place.
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where nothing is recorded."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def relu(x: Tensor) -> Tensor:
    """ReLU in place, always: its backward pass reads the result, not the argument."""
    return F.relu(x, inplace=True)
