"""Forgetting activations that are cheaper to compute again than to keep for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements from which recomputing cheap operations saves more than it costs.
WORTH_RECOMPUTING = 1 << 20


def cheaply(function: Callable, *tensors: Tensor) -> Any:
    """Call a function of cheap operations, of which the last may be a convolution or product.

    Where large tensors are recorded for the backward pass, only the arguments are kept, and the
    cheap operations run again there (not the last: recomputing stops when its input is known).
    ``torch.compile`` makes that choice itself.
    """
    if (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and max(x.numel() for x in tensors) >= WORTH_RECOMPUTING
    ):
        return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return function(*tensors)


def maybe_checkpoint(enabled: bool, function: Callable, *arguments: Any) -> Any:
    """Call ``function``; if enabled and gradients are recorded, forget its activations."""
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)
