"""How long a module's calls take."""

from time import perf_counter
from typing import Any

import torch
from torch import nn


class Stopwatch:
    """Wall-clock time of a module's last call, waiting for the GPU before and after it.

    Attributes:
        seconds: How long the last call took.
    """

    def __init__(self, module: nn.Module):
        self.seconds = 0.0
        self._started = 0.0
        self._hooks = [
            module.register_forward_pre_hook(self._start),
            module.register_forward_hook(self._stop),
        ]

    def remove(self) -> None:
        """Leave the module as it was."""
        for hook in self._hooks:
            hook.remove()

    def _start(self, module: nn.Module, arguments: Any) -> None:
        _synchronize()
        self._started = perf_counter()

    def _stop(self, module: nn.Module, arguments: Any, output: Any) -> None:
        _synchronize()
        self.seconds = perf_counter() - self._started


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
