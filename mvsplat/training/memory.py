"""How much memory training has had."""

import sys
from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mvsplat.private_names import allocations


def peak_memory(device: torch.device) -> int | None:
    """Bytes that this process has had at most: of a GPU's memory, or of the machine's.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StepMemory:
    """The most memory that tensors take between two calls.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = 0
        self._profile: profile | None = None

    @property
    def is_known(self) -> bool:
        """Whether the device can be asked."""
        return self._device.type in ("cuda", "cpu")

    def start(self, held: Iterable[Tensor]) -> None:
        """Begin to measure.

        Args:
            held: The tensors that there are already; of a GPU, all are known.
        """
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._device.type == "cpu":
            self._held = bytes_of(held)
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()

    def stop(self) -> int:
        """End; the most bytes since the start."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._profile is None:
            return 0
        self._profile.__exit__(None, None, None)
        sizes = allocations(self._profile)
        self._profile = None
        return self._held + max(accumulate(sizes, initial=0))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Memory of tensors, each once."""
    distinct = {id(tensor): tensor for tensor in tensors}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
