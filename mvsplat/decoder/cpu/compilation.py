"""How the kernels are compiled: once a machine, cached on disk, with one line of notice."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numba
from numba.core import event

# Without numba's reference counting: it makes every array view an atomic update of a counter that
# all threads share, which costs more than the arithmetic.  So kernels allocate nothing; scratch
# space is handed to them.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: Callable) -> Any:
    """Compile ``function`` on first use, without the interpreter lock, cached beside the module.

    Where neither the package nor the user's cache folder is writable it is compiled in every
    process instead (``NUMBA_CACHE_DIR`` names another folder).
    """
    plain = inspect.unwrap(function)  # shape checkers wrap every function they see
    try:
        compiled = numba.njit(plain, cache=True, **_OPTIONS)
    except RuntimeError:  # no writable cache folder
        compiled = numba.njit(plain, **_OPTIONS)
    _Notice.kernels.add(compiled)
    return compiled


def inlined(function: Callable) -> Any:
    """A helper of kernels of the same module, always inlined into them."""
    return numba.njit(inspect.unwrap(function), forceinline=True, **_OPTIONS)


class _Notice(event.Listener):
    """Tells once a process that kernels are being compiled, not merely loaded."""

    kernels: set[Any] = set()
    given = False

    def on_start(self, event: Any) -> None:
        if not _Notice.given and event.data["dispatcher"] in _Notice.kernels:
            _Notice.given = True
            print(
                "mvsplat: compiling the CPU rasterizer for this machine (once, under a minute) ...",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Notice())
