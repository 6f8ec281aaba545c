"""Private names of other libraries that the package uses, each with the versions it was seen in.

A new release of a library may change any of them without notice; what then breaks is here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

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


DispatchMode = TorchDispatchMode
"""A context in which every operation passes through ``__torch_dispatch__``.

torch 2.6 to 2.13: ``torch.utils._python_dispatch``.
"""


def allocations(profile: Any) -> list[int]:
    """Bytes allocated (above 0) and freed on the CPU, in this order, that a profile has seen.

    torch 2.6 to 2.13: ``kineto_results`` of ``torch.profiler.profile(profile_memory=True)``.
    """
    events = profile.profiler.kineto_results.events()
    found = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return [size for _, size in sorted(found, key=lambda event: event[0])]


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


# Lightning, jsonargparse and loaders
#
# Methods of Lightning that are overridden cannot stand here: in mvsplat.cli.trainer_commands
# `_parse_ckpt_path`, `_prepare_subcommand_parser` (with `_subcommand_method_arguments`),
# `_instantiate_trainer` and `_get` of LightningCLI, in mvsplat.training.progress_bar
# `_get_train_description` and `_update` of RichProgressBar. All were seen in lightning 2.6.6.


def stop_after_batch(trainer: Any) -> None:
    """Let Lightning's loops end after the batch that they are at, as if SIGTERM had come.

    They raise SIGTERMException then, in training and in evaluation; ``trainer.should_stop`` ends
    training only, and as if it were complete. Seen in lightning 2.6.6.
    """
    trainer._signal_connector.received_sigterm = True


def dump_checkpoint(trainer: Any) -> dict[str, Any]:
    """What ``trainer.save_checkpoint`` writes, without its barrier, at which others may never come.

    Seen in lightning 2.6.6.
    """
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def batch_progress(trainer: Any) -> Any:
    """The count of training batches: ``total`` and ``current``, each ``ready`` and ``processed``.

    ``trainer.fit_loop`` is public, what is in it undocumented. Seen in lightning 2.6.6.
    """
    return trainer.fit_loop.epoch_loop.batch_progress


def schedule_progress(trainer: Any) -> Any:
    """The count of the schedule's steps: ``ready`` and ``completed``; as :func:`batch_progress`."""
    return trainer.fit_loop.epoch_loop.scheduler_progress.total


def options_of(parser: Any) -> list[Any]:
    """The options of a parser, each with ``dest``, ``help`` and ``choices``.

    Of argparse in Python 3.10 to 3.13, which jsonargparse (4.50 to 4.53) derives from.
    """
    return parser._actions


def type_of(option: Any) -> Any:
    """The type that an option of jsonargparse takes, or None. Seen in jsonargparse 4.50 to 4.53."""
    return getattr(option, "_typehint", None)


def stop_workers(loader: DataLoader) -> None:
    """End a loader's worker processes now; its next iteration starts new ones.

    Lightning does the same to loaders of its own. Seen in torch 2.6 to 2.13.
    """
    iterator: Any = loader._iterator
    loader._iterator = None
    if hasattr(iterator, "_shutdown_workers"):  # not where this process loads by itself
        iterator._shutdown_workers()
