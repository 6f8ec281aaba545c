"""How the kernels of this package are compiled: on first use, once a machine."""

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable) -> Any:
    """Compile a function, without the interpreter's lock, and keep the result on disk.

    Where neither the package's nor the user's cache folder can be written, every process compiles
    for itself. A kernel calls kernels of its own module only: a cached one does not notice when
    others change.
    """
    plain = inspect.unwrap(function)  # shape checkers wrap every function they see
    try:
        return njit(plain, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # nowhere to write
        return njit(plain, nogil=True, error_model="numpy")
