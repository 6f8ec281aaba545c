"""Where the arrays that kernels write lie: made for each call, or kept and used again."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LINE = 64  # bytes of a cache line

Allocate = Callable[[str, tuple[int, ...], Any], np.ndarray]
"""An uninitialised array for a purpose, by name, with a shape and a dtype."""


def fresh(purpose: str, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised array of its own that starts at a cache line, where numpy's need not.

    A record that lies across two lines is read a third more slowly.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + LINE, dtype=np.uint8)
    skip = -buffer.ctypes.data % LINE
    return buffer[skip : skip + size].view(dtype).reshape(shape)


class KeptBuffers:
    """Gives the same memory again for the same purpose.

    For work that is repeated, as steps of an optimisation are: the system hands out large arrays
    page by page and clears them, which takes as long as a kernel's writing them. What was given
    for a purpose is overwritten when it is asked for again. Not for several threads at once.
    """

    def __init__(self):
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, purpose: str, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        kept = self._kept.get(purpose)
        if kept is None or kept.size < size:
            # Sizes differ from step to step: a little more, so that few of them need new memory.
            kept = self._kept[purpose] = fresh(purpose, (size + size // 4,), np.uint8)
        return kept[:size].view(dtype).reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(array.nbytes for array in self._kept.values())
