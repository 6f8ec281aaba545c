"""What a model's parts cost: time and memory of each scene, without the first calls."""

import resource
import sys
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import torch
from torch import nn

from mvsplat.types import Batch


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


class Benchmark:
    """Measures a model's encoder and decoder while it is used; leaves it as it was at the end.

    Args:
        model: It has an ``encoder`` and a ``decoder``.
    """

    def __init__(self, model: Any):
        self._encoder, self._decoder = Stopwatch(model.encoder), Stopwatch(model.decoder)
        self._reset = model.encoder.register_forward_pre_hook(lambda *_: reset_peak_memory())
        self._peak = 0
        self._read = model.decoder.register_forward_hook(self._read_peak)
        self._measured = 0

    def __enter__(self) -> "Benchmark":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the model as it was."""
        for watch in (self._encoder, self._decoder):
            watch.remove()
        for hook in (self._reset, self._read):
            hook.remove()

    def of_last(self, batch: Batch, gaussians: int) -> dict[str, Any]:
        """What each scene of the batch that was encoded and rendered last took.

        Args:
            batch: The batch; times are divided by its number of scenes.
            gaussians: The number of each scene's Gaussians.
        """
        scenes, views = batch.target.image.shape[:2]
        warm_up = self._measured == 0
        self._measured += 1
        return {
            "encoder_seconds": self._encoder.seconds / scenes,
            "decoder_seconds": self._decoder.seconds / scenes,
            "decoder_seconds_a_view": self._decoder.seconds / (scenes * views),
            "peak_memory_bytes": self._peak,
            "gaussians": gaussians,
            "warm_up": warm_up,
        }

    def _read_peak(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._peak = peak_memory()


def reset_peak_memory() -> None:
    """Let :func:`peak_memory` start anew: exact on CUDA and Linux, elsewhere without effect."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform.startswith("linux"):
        try:
            # proc(5): 5 resets the peak resident set size to what it is now.
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass  # not allowed in some containers; the peak is then the process's


def peak_memory() -> int:
    """Bytes at the peak: allocated by PyTorch on CUDA, else the whole process's resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
