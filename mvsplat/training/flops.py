"""Floating point operations of a training step, counted while it runs, and what a device can do."""

import sys
import warnings
from contextlib import ExitStack
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from torch.utils.flop_counter import FlopCounterMode

from mvsplat.encoder.cpu import correlation  # noqa: F401  (defines the operations counted here)
from mvsplat.private_names import DispatchMode

Shape = tuple[int, ...]


def _correlations(reference: Shape, other: Shape, grid: Shape, **_: Any) -> int:
    """Of every reference pixel with every pixel of the other map."""
    return 2 * _product(reference) * other[1] * other[2]


def _correlations_backward(_: Shape, reference: Shape, other: Shape, grid: Shape, **__: Any) -> int:
    """They are computed again, and there is one product for the gradient of each map."""
    return 2 * _correlations(reference, other, grid)


def _samples(reference: Shape, other: Shape, grid: Shape, **_: Any) -> int:
    """Of every reference pixel with its candidates."""
    return 2 * _product(reference) * grid[2]


def _samples_backward(_: Shape, reference: Shape, other: Shape, grid: Shape, **__: Any) -> int:
    return 2 * _samples(reference, other, grid)


def _product(shape: Shape) -> int:
    return int(torch.Size(shape).numel())


class _Counting(DispatchMode):
    """Adds up operations; FlopCounterMode itself has hooks that change gradients' last digits."""

    def __init__(self) -> None:
        super().__init__()
        ours = torch.ops.mvsplat
        formulas = {
            ours.correlate_at_points: _correlations,
            ours.correlate_at_points_backward: _correlations_backward,
            ours.correlate_with_samples: _samples,
            ours.correlate_with_samples_backward: _samples_backward,
        }
        self._formulas = FlopCounterMode(display=False, custom_mapping=formulas).flop_registry
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        formula = self._formulas.get(getattr(function, "overloadpacket", None))
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


class FlopCounter:
    """Counts the operations of products, convolutions and attention between two calls.

    Rasterizers count nothing: their kernels are closed to PyTorch. What is computed again in the
    backward pass counts again.
    """

    def __init__(self) -> None:
        self._running: ExitStack | None = None
        self._mode = _Counting()

    def start(self) -> None:
        """Begin to count; compiled parts run as they are written until the end."""
        self.stop()
        self._mode = _Counting()
        self._running = ExitStack()
        if "torch._dynamo" in sys.modules:  # in compiled code there is nothing to see
            self._running.enter_context(torch.compiler.set_stance("force_eager"))
        self._running.enter_context(self._mode)

    def stop(self) -> int | None:
        """End; the operations since the start, or None if there was none."""
        if self._running is None:
            return None
        self._running.close()
        self._running = None
        return self._mode.total


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second that a device is sold for, in Lightning's precision; None: not known."""
    types = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32, "64": torch.float64}
    dtype = types.get(precision.partition("-")[0])
    if device.type != "cuda" or dtype is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about devices that are not known
        try:
            known = get_available_flops(device, dtype)
        except (IndexError, KeyError):  # names that are not written as others are
            return None
    return None if known is None else float(known)
