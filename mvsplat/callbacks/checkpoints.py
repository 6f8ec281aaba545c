"""Checkpoints of a run: the latest few by step, the best few by validation, and ``last``."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

FOLDER = "checkpoints"
"""Name of the folder in a run folder."""

_OF_A_RUN = (FOLDER, "logs", "images", "config.yaml")
"""What ``fit`` leaves in a run folder."""


class LatestCheckpoint(ModelCheckpoint):
    """Saves ``checkpoints/step-*.ckpt`` every few optimizer steps, and ``checkpoints/last.ckpt``.

    Args:
        every_n_steps: Optimizer steps between two checkpoints; the end of a run saves one as well.
        keep: How many of the latest are kept; -1 keeps all.
    """

    def __init__(self, every_n_steps: int = 5000, keep: int = 3):
        super().__init__(
            filename="step-{step:07d}",
            monitor="step",
            mode="max",
            save_top_k=keep,
            every_n_train_steps=every_n_steps,
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str((Path(trainer.default_root_dir) / FOLDER).absolute())
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The last step need not be a multiple of every_n_steps.
        unsaved = trainer.global_step > self._last_global_step_saved
        if unsaved and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = Path(self.dirpath or ".") / f"{self.CHECKPOINT_NAME_LAST}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)

    @property
    def state_key(self) -> str:
        return "LatestCheckpoint"


class BestCheckpoint(ModelCheckpoint):
    """Saves ``checkpoints/best-*.ckpt`` after validations.

    Args:
        monitor: The logged value that tells good from bad.
        mode: Whether large (``max``) or small (``min``) is good.
        keep: How many of the best are kept; 0 saves none.
    """

    def __init__(self, monitor: str = "val/psnr", mode: str = "max", keep: int = 1):
        super().__init__(
            filename=f"best-{{{monitor}:.3f}}-step-{{step:07d}}",
            monitor=monitor,
            mode=mode,
            save_top_k=keep,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str((Path(trainer.default_root_dir) / FOLDER).absolute())
        super().setup(trainer, pl_module, stage)

    @property
    def state_key(self) -> str:
        return "BestCheckpoint"


def find_checkpoint(run: Path, which: str, mode: str = "max") -> Path:
    """The file that ``last`` or ``best`` means in a run folder; a path is only checked.

    Raises:
        FileNotFoundError: There is no such checkpoint; names what there is.
        ValueError: The file is damaged, or is no checkpoint of this program.
    """
    folder = run / FOLDER
    if which == "last":
        found = folder / "last.ckpt"
    elif which == "best":
        scored = [(m, path) for path in folder.glob("best-*.ckpt") if (m := _score(path))]
        if not scored:
            raise FileNotFoundError(f"no best-*.ckpt in {folder}: no validation has been saved")
        found = (max if mode == "max" else min)(scored)[1]
    else:
        found = Path(which)
    if not found.is_file():
        there = sorted(path.name for path in found.parent.glob("*.ckpt"))[:5]
        raise FileNotFoundError(
            f"no checkpoint at {found}" + (f"; there are {', '.join(there)}" if there else "")
        )
    _check(found)
    return found


def _check(path: Path) -> None:
    """Raise ValueError for a file that Lightning could not resume from, with the way out."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or not a checkpoint: {first[:200]}") from error
    if not isinstance(content, dict) or not {"state_dict", "loops"} <= content.keys():
        raise ValueError(
            f"{path} is not a checkpoint of this program; if it is a released MVSplat checkpoint, "
            "give it as --model.published_checkpoint"
        )


def _score(path: Path) -> Any:
    match = re.fullmatch(r"best-(-?[\d.]+)-step-(\d+)\.ckpt", path.name)
    return (float(match[1]), int(match[2])) if match else None


class EarlierRun:
    """What an earlier ``fit`` left in a run folder, which a new one must not mix with or lose.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path):
        self.run = run
        self.target: Path | None = None

    def set_aside(self) -> None:
        """Move it to ``earlier-1`` (2, ...), if it has checkpoints."""
        if not any((self.run / FOLDER).glob("*.ckpt")):
            return
        number = 1
        while (self.run / f"earlier-{number}").exists():
            number += 1
        self.target = self.run / f"earlier-{number}"
        self.target.mkdir()
        _move(self.run, self.target)
        rank_zero_info(
            f"A new run starts in {self.run}; the earlier one was moved to {self.target} "
            "(--ckpt_path last would have resumed it)."
        )

    def put_back(self) -> None:
        """Undo it, where the new run did not even begin."""
        if self.target is None:
            return
        for name in _OF_A_RUN:
            left = self.run / name
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        _move(self.target, self.run)
        self.target.rmdir()
        rank_zero_info(f"The new run did not begin; the earlier one is back in {self.run}.")


def _move(source: Path, target: Path) -> None:
    for name in _OF_A_RUN:
        if (source / name).exists():
            (source / name).rename(target / name)
