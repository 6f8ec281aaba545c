"""Forgetting activations that are cheaper to compute again than to keep for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements from which recomputing cheap operations saves more than it costs.
WORTH_RECOMPUTING = 1 << 20


def recompute_if_large(function: Callable, *tensors: Tensor) -> Any:
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
        return _recomputed(function, *tensors)
    return function(*tensors)


def recompute_if(enabled: bool, function: Callable, *arguments: Any) -> Any:
    """Call ``function``; if enabled and gradients are recorded, forget its activations."""
    if enabled and torch.is_grad_enabled():
        return _recomputed(function, *arguments)
    return function(*arguments)


def _recomputed(function: Callable, *arguments: Any) -> Any:
    # Nothing that runs here draws random numbers, whose state would be stored and restored.
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def one_by_one_if_large(function: Callable, *parts: Tensor) -> Tensor:
    """Call a function of batches of maps; on the CPU for large images one after the other.

    There a batch runs no faster than its images, and what is between holds one image's memory.
    """
    largest = max(part[0].numel() for part in parts)
    if parts[0].device.type == "cpu" and largest >= WORTH_RECOMPUTING:
        images = zip(*(part.split(1) for part in parts))
        return torch.cat([function(*image) for image in images])
    return function(*parts)
