"""What an earlier run left in a run folder, which a new one must not be mixed with or lose.

Only what commands of this package write is a run's: other files in the folder, which may be
anything, stay where they are.
"""

import os
import re
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from mvsplat.training.run_folder import CHECKPOINTS, LAST

CONFIG = "config.yaml"
_STAGES = ("validate", "test", "predict")
_CHECKPOINTS = ("step-*.ckpt", "best-*.ckpt", LAST, ".*.tmp.ckpt")
_LOGS = ("events.out.tfevents.*", "metrics.csv", "hparams.yaml", "checkpoints/*.ckpt")
_OF_WANDB = ("run-*", "offline-run-*")
_OF_MLFLOW = ("*/meta.yaml",)
_FRAME = "*/" + 6 * "[0-9]" + "*."
_RESULTS = (
    "scores.json",
    "scores.csv",
    "sheets/*.png",
    "films/*.mp4",
    *(f"images/{_FRAME}{suffix}" for suffix in ("png", "npy")),
)
_SPLATS = ("*.ply", "*.splat", "*.spz", "*.sog", "*.glb", "*.gltf")
_PREDICTIONS = (*_SPLATS, "*.cameras.json", "*.mp4", f"{_FRAME}png", f"{_FRAME}npy")
_DATA = ("index.json", "*.torch")
"""Of a data set, whose folders have the names of commands too."""


class EarlierRun:
    """An earlier run in a run folder: moved out of a new one's way, and back.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path):
        self.run = run
        self.target: Path | None = None
        self._moved: list[Path] = []

    def set_aside(self) -> None:
        """Move it to ``earlier-1`` (2, ...), if there is more of it than a failed start."""
        found = _of_a_run(self.run)
        if all(path.name in (CONFIG, "hparams.yaml") for path in found):
            return
        number = 1
        while (self.run / f"earlier-{number}").exists():
            number += 1
        self.target = self.run / f"earlier-{number}"
        self._moved = [path.relative_to(self.run) for path in found]
        _move(self._moved, self.run, self.target)
        rank_zero_info(
            f"A new run starts in {self.run}; the earlier one was moved to {self.target} "
            "(--ckpt_path last would have resumed it)."
        )

    def put_back(self) -> None:
        """Undo it, where the new run did not even begin."""
        if self.target is None:
            return
        for path in _of_a_run(self.run):  # all the new run's: nothing was left of the earlier one
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            _remove_empty(path.parent, self.run)
        _move(self._moved, self.target, self.run)
        self.target.rmdir()
        self.target = None
        rank_zero_info(f"The new run did not begin; the earlier one is back in {self.run}.")


def _move(paths: list[Path], source: Path, target: Path) -> None:
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).rename(target / path)
        _remove_empty((source / path).parent, source)


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder, and those above it that are in ``top``, as far as nothing is in them."""
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _of_a_run(run: Path) -> list[Path]:
    """Files, and folders as a whole, that commands have written; none lies in another one."""
    configs = [path for path in _config_files(run) if path.is_file()]
    settings = [_read(path) for path in configs]
    if settings and configs[0].parent == run and not _is_resolved(settings[0]):
        configs, settings = configs[1:], settings[1:]  # a file of the user's own
    found = {
        *configs,
        *_matching(run / CHECKPOINTS, _CHECKPOINTS),
        *_matching(run / "images", ("validation*.png",)),
        *_matching(run / "predictions", _PREDICTIONS, whole=True),
    }
    for folder in {run / "test", *_results_folders(run, settings)}:
        found.update(_matching(folder, _RESULTS, whole=folder != run))
    for folder in {run / "logs", run / "lightning_logs", *_log_folders(run, settings)}:
        below = () if folder == run else tuple(f"**/{pattern}" for pattern in _LOGS)
        found.update(_matching(folder, _LOGS + below))
    for folder in {run, *_save_dirs(run, settings)}:
        found.update(_matching(folder / "wandb", _OF_WANDB, whole=True))
        stores = {folder, folder / "mlruns"} - {run}
        found.update(path for s in stores for path in _matching(s, _OF_MLFLOW, whole=True))
    tops = {_link_above(path, run) or path for path in found}
    return sorted(path for path in tops if not tops & {*path.parents})


def _config_files(run: Path) -> list[Path]:
    return [run / CONFIG, *(run / stage / CONFIG for stage in _STAGES)]


def _read(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_resolved(settings: dict[str, Any]) -> bool:
    """Whether it is a configuration as ``fit`` writes it, in which nothing is left out."""
    return {"run_dir", "checkpoint", "best_checkpoint", "results", "trainer"} <= settings.keys()


def _matching(folder: Path, patterns: tuple[str, ...], whole: bool = False) -> list[Path]:
    """What matches in a folder; if ``whole``, all of the folder where anything does."""
    matches = chain.from_iterable(folder.glob(pattern) for pattern in patterns)
    if not whole:
        return [path for path in matches if path.is_file()]
    if any(any(folder.glob(pattern)) for pattern in _DATA):
        return [path for path in matches if path.is_file()]
    return [folder] if next(matches, None) is not None else []


def _results_folders(run: Path, settings: list[dict[str, Any]]) -> Iterator[Path]:
    """Where tests wrote: as they were configured, and wherever scores are."""
    for each in settings:
        results = each.get("results")
        name = results.get("folder") if isinstance(results, dict) else None
        if isinstance(name, str) and (folder := _inside(run, run / name)) is not None:
            yield folder
    for depth in range(1, 4):
        for path in run.glob(depth * "*/" + "scores.json"):
            between = path.parents[:depth]
            if _inside(run, path) is None or any(map(_is_a_run, between)):
                continue
            if '"scenes_tested"' in _head(path):
                yield path.parent


def _is_a_run(folder: Path) -> bool:
    """Whether a folder in the run folder is a run of its own."""
    marks = (CHECKPOINTS, *(f"{stage}/{CONFIG}" for stage in _STAGES))
    return any((folder / mark).exists() for mark in marks)


def _log_folders(run: Path, settings: list[dict[str, Any]]) -> Iterator[Path]:
    """Where loggers wrote, below their configured folders."""
    for arguments in _loggers(settings):
        path = Path(str(arguments.get("save_dir") or run), str(arguments.get("name") or ""))
        if (folder := _inside(run, path)) is not None:
            yield folder


def _save_dirs(run: Path, settings: list[dict[str, Any]]) -> Iterator[Path]:
    """The configured folders of loggers, in which those make folders of their own."""
    for arguments in _loggers(settings):
        if (folder := _inside(run, Path(str(arguments.get("save_dir") or run)))) is not None:
            yield folder


def _loggers(settings: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The arguments of the configured loggers."""
    for each in settings:
        trainer = each.get("trainer")
        loggers = trainer.get("logger") if isinstance(trainer, dict) else None
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            arguments = logger.get("init_args") if isinstance(logger, dict) else None
            if isinstance(arguments, dict):
                yield arguments


def _inside(run: Path, path: Path) -> Path | None:
    """The path, written as one below ``run``, if it is there and not of a run before."""
    for form in (os.path.abspath, os.path.realpath):
        here, there = Path(form(run)), Path(form(path))
        if there.is_relative_to(here):
            parts = there.relative_to(here).parts
            before = bool(parts) and re.fullmatch(r"earlier-\d+", parts[0]) is not None
            return None if before else run.joinpath(*parts)
    return None


def _head(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(100_000)
    except OSError:
        return ""


def _link_above(path: Path, run: Path) -> Path | None:
    """The outermost symbolic link between the run folder and a path: itself is the run's."""
    between = [path, *path.parents]
    links = [each for each in between[: between.index(run)] if each.is_symlink()]
    return links[-1] if links else None
