"""Private names of other libraries that the package uses, each with the versions it was seen in.

A new release of a library may change any of them without notice; what then breaks is here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# torch and numba (and gsplat, which is built by torch)


def softmax_backward(gradient: Tensor, result: Tensor, dim: int) -> Tensor:
    """What softmax sends back, given its result: one pass, in place of several.

    torch 2.6 to 2.13: ``torch._softmax_backward_data``.
    """
    return torch._softmax_backward_data(gradient, result, dim, gradient.dtype)


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The norm of each tensor: on an accelerator in few kernels, not one or more a tensor.

    torch 2.6 to 2.13: ``torch._foreach_norm``, which ``clip_grad_norm_`` is made of.
    """
    return list(torch._foreach_norm(list(tensors)))  # type: ignore[arg-type]


NO_REFERENCE_COUNTS: dict[str, Any] = {"_nrt": False}
"""The option of ``numba.njit`` that leaves out reference counting (numba 0.61 to 0.68)."""


def keep_on_disk(compiled: Any, function: Callable, sources: Callable[[], str]) -> None:
    """Let a compiled function keep its machine code on disk, as ``cache=True`` does.

    numba notices changes of the function's own file only; here they are those of ``sources()``.

    numba 0.61 to 0.68: the dispatcher's ``_cache`` and the cache's ``_index_key``.

    Raises:
        RuntimeError: No folder for it is writable.
    """
    from numba.core.caching import FunctionCache

    class Cache(FunctionCache):
        def _index_key(self, sig: Any, codegen: Any) -> tuple:
            return (*super()._index_key(sig, codegen), sources())

    compiled._cache = Cache(function)


def folder_on_disk(compiled: Any) -> str | None:
    """Where a compiled function's machine code is kept; None if it is not.

    numba 0.61 to 0.68: the dispatcher's ``_cache``.
    """
    return compiled._cache.cache_path


def gsplat_kernels() -> Any:
    """gsplat's CUDA extension, built or loaded by this call; None where it cannot be built.

    gsplat 1.5.3: ``gsplat.cuda._backend._C``.

    Raises:
        Exception: Of many kinds: what a compiler says.
    """
    from gsplat.cuda import _backend

    return _backend._C
