"""How the kernels are compiled: once a machine, cached on disk, with one line of notice."""

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core import event
from numba.core.caching import FunctionCache

# Without numba's reference counting: it makes every array view an atomic update of a counter that
# all threads share, which costs more than the arithmetic.  So kernels allocate nothing; scratch
# space is handed to them.
_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "_nrt": False}

_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class _Cache(FunctionCache):
    """numba's cache notices changes of a kernel's own file only; this one of the helpers' too."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple:
        return (*super()._index_key(sig, codegen), _SOURCES)


def kernel(function: Callable) -> Any:
    """Compile ``function`` on first use, without the interpreter lock, cached beside the module.

    Where neither the package nor the user's cache folder is writable it is compiled in every
    process instead (``NUMBA_CACHE_DIR`` names another folder).
    """
    plain = inspect.unwrap(function)  # shape checkers wrap every function they see
    compiled: Any = numba.njit(plain, **_OPTIONS)
    try:
        compiled._cache = _Cache(plain)
    except RuntimeError:  # no folder is writable
        pass
    _Notice.kernels.add(compiled)
    return compiled


def cache_folder(compiled: Any) -> Path | None:
    """Where a kernel's machine code is kept, or None where no folder is writable."""
    return Path(compiled._cache.cache_path) if isinstance(compiled._cache, _Cache) else None


def inlined(function: Callable) -> Any:
    """A helper of kernels of the same module, always inlined into them."""
    return numba.njit(inspect.unwrap(function), forceinline=True, **_OPTIONS)


class _Notice(event.Listener):
    """Tells once a process that kernels are being compiled, not merely loaded."""

    kernels: ClassVar[set[Any]] = set()
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
