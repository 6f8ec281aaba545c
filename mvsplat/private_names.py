"""Names of other libraries that are not theirs to keep: each is used here, and nowhere else.

A library may drop them in any release; a test notices. Said of each is what there is no public
name for, and the versions in which it was seen.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

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


def norms_of(tensors: list[Tensor]) -> list[Tensor]:
    """The norm of each tensor in one kernel for all, which torch.nn.utils uses to clip gradients.

    Its public ``get_total_norm`` gives the norm of all only, in which a finite one may overflow.
    Seen in torch 2.6 to 2.13.
    """
    return list(torch._foreach_norm(tensors))
