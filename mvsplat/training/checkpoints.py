"""Checkpoints of a run: the latest few by step, the best few by validation, and ``last``.

The folder is the only record of what has been saved. A checkpoint has its name only when it is
complete on disk, and an older one is removed only after that, so that a run can be killed at any
moment, or its disk be full, without losing what it could go on from.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer

from mvsplat.files import replacing
from mvsplat.private_names import dump_checkpoint
from mvsplat.training.checkpoint_io import AtomicCheckpointIO
from mvsplat.training.complete_steps import CompleteSteps, has_finite_weights
from mvsplat.training.end_together import saves_alone
from mvsplat.training.run_folder import (
    CHECKPOINTS,
    LAST,
    NUMBER,
    best_checkpoints,
    latest_checkpoints,
    next_number,
    number_of,
    score_of,
    step_of,
)

_log = logging.getLogger("mvsplat.checkpoints")
_NOT_FINITE = "step %d is not saved: weights are not finite"


# Lightning's ModelCheckpoint with AtomicCheckpointIO would do for atomic files, not for the rest
# (as read in lightning 2.6.6):
# * It believes its own state, which travels in checkpoints, not the folder. Where a run goes on
#   from an earlier step, or in a folder that was moved, files on disk are neither counted nor
#   removed, and a step that is saved again gets another name, step-*-v1.ckpt.
# * It changes this state before it writes. A full disk ends the run; were that error caught, a file
#   would be counted that is not there, and the one that it was to replace never removed.
# * `last` is written a second time, or is a link that is gone before the new one is made.
# * The end of a run is saved only where its step is a multiple of every_n_train_steps.
# * On an exception it saves whatever weights there are, in the middle of an optimizer step or not
#   finite, and waits at a barrier for other processes, which may never come.
class _RunCheckpoints(Checkpoint):
    """Writes and removes checkpoints in the run folder, in all processes alike."""

    folder: Path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder = (Path(trainer.default_root_dir) / CHECKPOINTS).absolute()
        if stage != "fit":
            return
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.is_global_zero:
            for unfinished in self.folder.glob(".*.tmp.ckpt"):  # of a run that was killed
                unfinished.unlink(missing_ok=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.is_global_zero and NUMBER not in checkpoint:
            checkpoint[NUMBER] = next_number(self.folder)

    def write(self, trainer: Trainer, name: str) -> str | None:
        """Save ``name``; returns what went wrong, in every process the same."""
        problem = None
        try:
            trainer.save_checkpoint(self.folder / name, weights_only=False)
        except OSError as error:
            problem = str(error)
            trainer.strategy.barrier()  # where the other processes wait, in save_checkpoint
        return trainer.strategy.broadcast(problem)

    def is_due(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Whether there is anything now that is worth saving; in every process the same."""
        if not _is_training(trainer):
            return False
        finite = trainer.strategy.broadcast(has_finite_weights(pl_module))
        if not finite:
            _log.warning(_NOT_FINITE, trainer.global_step)
        return finite


def _is_training(trainer: Trainer) -> bool:
    trying = trainer.fast_dev_run or trainer.sanity_checking  # type: ignore[attr-defined]
    return trainer.state.fn == TrainerFn.FITTING and not trying


class LatestCheckpoint(_RunCheckpoints):
    """Saves ``checkpoints/step-*.ckpt`` every few optimizer steps; ``last.ckpt`` is the newest.

    The end of a run saves one as well, whatever ends it: SIGTERM (preemption), Ctrl-C or an error
    save the last complete optimizer step. Where one cannot be written, because the disk is full,
    training goes on, and it is tried again soon.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.
        keep: How many of the latest are kept; -1 keeps all.
    """

    def __init__(self, every_n_steps: int = 5000, keep: int = 3):
        if every_n_steps < 1 or keep < -1:
            raise ValueError(
                f"every_n_steps is {every_n_steps} and keep {keep}; expected at least 1, and -1 "
                "(all) or more"
            )
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._saved: int | None = None
        self._failed: int | None = None
        self._wait_until = 0
        self._steps = CompleteSteps()

    @property
    def best_model_path(self) -> str:
        """The newest one, where Lightning asks for it; empty without any."""
        return next(map(str, reversed(latest_checkpoints(self.folder))), "")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _check_agreement(trainer)
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            path = Path(trainer.ckpt_path).absolute()
            # A run that was killed before the newest one could become the last.
            if path.parent == self.folder and step_of(path) >= 0 and score_of(path) is None:
                self._make_last(path.name)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved, self._wait_until = trainer.global_step, 0
        self._failed = None
        self._steps.begin()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self._steps.change(trainer)  # Lightning calls checkpoint callbacks after all others

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert self._saved is not None  # since the start of training
        step = trainer.global_step
        passed = step // self.every_n_steps > self._saved // self.every_n_steps
        if passed and step >= self._wait_until and self.is_due(trainer, pl_module):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The last step need not be a multiple of every_n_steps.
        if trainer.global_step != self._saved and self.is_due(trainer, pl_module):
            if problem := self._save(trainer):
                raise OSError(f"the end of the run could not be saved: {problem}")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save the last complete step, if that can be had, without a word to other processes."""
        step = trainer.global_step
        if self._saved is None or step in (self._saved, self._failed) or not _is_training(trainer):
            return
        try:
            if not self._steps.is_complete(trainer):
                _log.warning("step %d is not saved: the next one has changed the weights", step)
            elif not has_finite_weights(pl_module):
                _log.warning(_NOT_FINITE, step)
            elif saves_alone(trainer, exception):
                self._save_alone(trainer)
        except Exception as error:  # what ended the run is what the user has to see
            _log.error("step %d could not be saved: %s", step, error)

    def _save(self, trainer: Trainer) -> str | None:
        step = trainer.global_step
        name = _name(step)
        problem = self.write(trainer, name)
        if problem is None and trainer.is_global_zero:
            problem = self._make_last(name)
        if problem := trainer.strategy.broadcast(problem):
            self._failed, self._wait_until = step, step + max(self.every_n_steps // 10, 1)
            _log.error(
                "step %d could not be saved: %s. The earlier checkpoints in %s are as they were.",
                step,
                problem,
                self.folder,
            )
            return problem
        self._saved = step
        if trainer.is_global_zero:
            self._remove_old()
        return None

    def _save_alone(self, trainer: Trainer) -> None:
        """What ``_save`` does, by this process: the others may never come."""
        name = _name(trainer.global_step)
        checkpoint = dump_checkpoint(trainer)
        trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, self.folder / name)
        if problem := self._make_last(name):
            raise OSError(problem)
        self._saved = trainer.global_step
        self._remove_old()
        _log.warning("step %d is saved: --ckpt_path last goes on from there", self._saved)

    def _remove_old(self) -> None:
        latest = [p for p in latest_checkpoints(self.folder) if number_of(p) is not None]
        for old in latest[: max(len(latest) - self.keep, 0)] if self.keep >= 0 else ():
            _remove(old)

    def _make_last(self, name: str) -> str | None:
        """Let ``last.ckpt`` be another name of a checkpoint: no second copy on disk."""
        try:
            with replacing(self.folder / LAST) as temporary:
                _link_or_copy(self.folder / name, temporary)
        except OSError as error:
            return str(error)
        return None


class BestCheckpoint(_RunCheckpoints):
    """Saves ``checkpoints/best-*.ckpt`` after validations.

    Args:
        monitor: The logged value that tells good from bad.
        mode: Whether large (``max``) or small (``min``) is good.
        keep: How many of the best are kept; 0 saves none, -1 keeps all.
    """

    def __init__(self, monitor: str = "val/psnr", mode: str = "max", keep: int = 1):
        if mode not in ("max", "min") or keep < -1:
            raise ValueError(
                f"mode is {mode!r} and keep {keep}; expected max or min, and -1 or more"
            )
        self.monitor = monitor
        self.mode = mode
        self.keep = keep

    @property
    def best_model_path(self) -> str:
        """The best one, where Lightning asks for it; empty without any."""
        return next(map(str, reversed(best_checkpoints(self.folder, self.mode))), "")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.keep == 0 or not self.is_due(trainer, pl_module):
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"best_checkpoint.monitor: no {self.monitor!r} is logged, but {known}")
        score = float(trainer.callback_metrics[self.monitor])
        name = f"best-{score:.6g}-step-{trainer.global_step:07d}.ckpt"
        better = self._among_the_best(name)
        if trainer.strategy.broadcast(better) and (problem := self.write(trainer, name)):
            _log.error("%s could not be saved: %s", name, problem)
        elif better and trainer.is_global_zero and self.keep > 0:
            for worse in best_checkpoints(self.folder, self.mode)[: -self.keep]:
                _remove(worse)

    def _among_the_best(self, name: str) -> bool:
        score = score_of(Path(name))
        if score is None:  # it is NaN
            return False
        saved = best_checkpoints(self.folder, self.mode)
        if self.keep < 0 or len(saved) < self.keep:
            return True
        worst = score_of(saved[-self.keep])
        assert worst is not None
        return score > worst if self.mode == "max" else score < worst


def _check_agreement(trainer: Trainer) -> None:
    """Refuse to train where a process goes on from another checkpoint than the first one does.

    Raises:
        RuntimeError: They see different folders, say.
    """
    mine, firsts = trainer.ckpt_path, trainer.strategy.broadcast(trainer.ckpt_path)
    if str(mine) != str(firsts):
        raise RuntimeError(
            f"process {trainer.global_rank} goes on from {mine or 'no checkpoint'}, the first one "
            f"from {firsts or 'none'}: all need the same run folder, on a disk that they share"
        )


def _name(step: int) -> str:
    return f"step-{step:07d}.ckpt"


def _link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("an old checkpoint stays: %s", error)
