"""How numba compiles kernels: once a machine, cached on disk, with a line of notice."""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core import event

from mvsplat.private_names import NO_REFERENCE_COUNTS, folder_on_disk, keep_on_disk

# numpy's error model: dividing by zero gives infinity, where Python's would branch to raise.
_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
# Without numba's reference counting: it makes every array view an atomic update of a counter that
# all threads share, which can cost more than the arithmetic. Such kernels allocate nothing.
_WITHOUT_ALLOCATIONS: Any = {**_OPTIONS, **NO_REFERENCE_COUNTS}


_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(rf"^from {_PACKAGE.name}\.([\w.]+) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)


@lru_cache
def _sources(path: Path) -> str:
    """A digest of a kernel's file and of all files of the package that it imports from.

    Their helpers and constants are part of its machine code.
    """
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.add(file)
            waiting += _imported(file)
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(found))).hexdigest()


@lru_cache
def _imported(path: Path) -> list[Path]:
    """The package's files that one imports; some that are named need not exist."""
    modules = []
    for module, several, one in _IMPORT.findall(path.read_text()):
        names = (name.split()[0] for name in (several or one).split(",") if name.strip())
        modules += [module, *(f"{module}.{name}" for name in names)]
    return [_PACKAGE / f"{module.replace('.', '/')}.py" for module in modules]


def kernel(function: Callable) -> Any:
    """Compile ``function`` on first use, without the interpreter lock, cached beside the module.

    It allocates nothing: scratch space is handed to it. Where neither the package nor the user's
    cache folder is writable it is compiled in every process instead (``NUMBA_CACHE_DIR`` names
    another folder).
    """
    return _compiled(function, _WITHOUT_ALLOCATIONS)


def allocating_kernel(function: Callable) -> Any:
    """As :func:`kernel`, for a function that makes arrays."""
    return _compiled(function, _OPTIONS)


def inlined(function: Callable) -> Any:
    """A helper of kernels of the same module, always inlined into them."""
    return numba.njit(inspect.unwrap(function), forceinline=True, **_WITHOUT_ALLOCATIONS)


def cache_folder(compiled: Any) -> Path | None:
    """Where a kernel's machine code is kept, or None where no folder is writable."""
    folder = folder_on_disk(compiled)
    return None if folder is None else Path(folder)


def _compiled(function: Callable, options: Any) -> Any:
    plain = inspect.unwrap(function)  # shape checkers wrap every function they see
    compiled: Any = numba.njit(plain, **options)
    try:
        # numba itself would look at the kernel's own file only.
        keep_on_disk(compiled, plain, lambda: _sources(Path(inspect.getfile(plain))))
    except RuntimeError:  # no folder is writable
        pass
    _Notice.kernels.add(compiled)
    return compiled


class _Notice(event.Listener):
    """Tells once a process that kernels are being compiled, not merely loaded."""

    kernels: ClassVar[set[Any]] = set()
    given = False

    def on_start(self, event: Any) -> None:
        if not _Notice.given and event.data["dispatcher"] in _Notice.kernels:
            _Notice.given = True
            print(
                "mvsplat: compiling CPU kernels for this machine (once, under a minute) ...",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Notice())
