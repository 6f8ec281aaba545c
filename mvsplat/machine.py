"""What the program asks of the machine it runs on: cores, bf16, memory, an end with its parent."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# mallopt's parameters (glibc's malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# Instructions for bf16, as LLVM names them.
_BF16 = ("avx512bf16", "amx-bf16", "bf16")
# Where bf16 takes more than this of float32's time, its rounding buys nothing.
_WORTHWHILE = 0.8
_MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Let this process reuse freed blocks of any size; returns whether the C library can do that.

    The C library gives large freed blocks back to the system at once, and the next tensor of the
    same size pays for every page again: up to half of a training step on the CPU. Large tensors
    lie in huge pages, too, unless the environment variable THP_MEM_ALLOC_ENABLE is 0.

    Meant for programs, once and before any tensor is made. The process holds on to its peak of
    memory from then on. Whoever sets one of the C library's own variables for this (as
    MALLOC_MMAP_THRESHOLD_, for less memory) has it as they want it.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _MALLOC):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch asks when it allocates
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(_TRIM_THRESHOLD, -1), mallopt(_MMAP_MAX, 0)])


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bf16_instructions() -> list[str]:
    """The processor's instructions for bf16."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return [name for name in _BF16 if features.get(name)]


@lru_cache(maxsize=1)
def bf16_is_faster() -> bool:
    """Whether networks run faster in bf16 on this processor.

    Having instructions for it does not say so: on AMD's Zen 4 and 5 they are twice as fast as
    float32's, on Intel's without AMX half as fast. So a convolution is tried, in some milliseconds.
    """
    if not bf16_instructions():
        return False
    import torch

    return _seconds_to_convolve(torch.bfloat16) < _WORTHWHILE * _seconds_to_convolve(torch.float32)


def _seconds_to_convolve(dtype: Any) -> float:
    """The best of some tries, of which the first ones prepare."""
    import torch

    maps, weight = torch.zeros(2, 64, 64, 64, dtype=dtype), torch.zeros(64, 64, 3, 3, dtype=dtype)
    maps, weight = (x.to(memory_format=torch.channels_last) for x in (maps, weight))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        torch.nn.functional.conv2d(maps, weight, padding=1)
        best = min(best, time.perf_counter() - start)
    return best


def free_memory() -> int | None:
    """Bytes of memory that this process can still have; None where the system does not tell.

    A container's own limit counts, too.
    """
    found = []
    try:
        with open("/proc/meminfo") as lines:
            kilobytes = {name: value.split()[0] for name, value in (x.split(":") for x in lines)}
        found.append(int(kilobytes["MemAvailable"]) * 1024)
        with (
            open("/sys/fs/cgroup/memory.max") as limit,
            open("/sys/fs/cgroup/memory.current") as used,
        ):
            found.append(int(limit.read()) - int(used.read()))
    except (OSError, ValueError, KeyError):  # another system, or no limit
        pass
    return max(0, min(found)) if found else None


def exit_once(parent_has_ended: Callable[[], Any]) -> None:
    """Let this worker process end with the one that started it, which may have been killed.

    Args:
        parent_has_ended: Returns when the parent is no more: ``join`` of
            ``multiprocessing.parent_process()``, or reading the standard input to its end.
    """

    def watch() -> None:
        parent_has_ended()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
