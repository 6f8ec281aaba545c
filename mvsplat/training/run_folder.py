"""A run's folder: which checkpoint in it is meant.

Checkpoints are numbered inside, in the order in which a folder got them: clocks are set back, and
copies have the time of copying. Those of earlier versions have no number and are ordered by time.
"""

import re
import zipfile
from functools import lru_cache
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn

CHECKPOINTS = "checkpoints"
"""Name of the checkpoints' folder in a run folder."""

LAST = "last.ckpt"

NUMBER = "number_in_folder"
"""Where a checkpoint keeps how many its folder had got with it."""


def step_of(path: Path) -> int:
    """The optimizer step in a checkpoint's name; -1 if there is none."""
    match = re.fullmatch(r"(?:step|best-.+-step)-(\d+)\.ckpt", path.name)
    return int(match[1]) if match else -1


def score_of(path: Path) -> float | None:
    """The score in the name of a ``best-*.ckpt``."""
    match = re.fullmatch(r"best-(-?[\d.]+(?:e[+-]?\d+)?)-step-\d+\.ckpt", path.name)
    return float(match[1]) if match else None


def number_of(path: Path) -> int | None:
    """The number in a checkpoint; 0 if it is of an earlier version, None if it cannot be read."""
    status = path.stat()
    return _number(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _number(path: Path, *version: int) -> int | None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # as many kinds as in check_checkpoint
        return None
    number = content.get(NUMBER, 0) if isinstance(content, dict) else 0
    return number if isinstance(number, int) else 0


def next_number(folder: Path) -> int:
    """The number of the checkpoint that a folder gets next."""
    return 1 + max((number_of(path) or 0 for path in folder.glob("[!.]*.ckpt")), default=0)


def latest_checkpoints(folder: Path) -> list[Path]:
    """``step-*.ckpt``, the oldest first: a run may have gone on from an earlier step."""
    return sorted(folder.glob("step-*.ckpt"), key=_age)


def best_checkpoints(folder: Path, mode: str) -> list[Path]:
    """``best-*.ckpt``, the worst first; of equals the earlier step is the better one."""
    sign = 1 if mode == "max" else -1
    scored = [(score_of(path), path) for path in folder.glob("best-*.ckpt")]
    ranked = [(sign * score, -step_of(path), path) for score, path in scored if score is not None]
    return [path for *_, path in sorted(ranked)]


def _age(path: Path) -> tuple[int, int, int]:
    return number_of(path) or 0, path.stat().st_mtime_ns, step_of(path)


def find_checkpoint(run: Path, which: str, mode: str = "max") -> Path:
    """The file that ``last`` or ``best`` means in a run folder; a path is only checked.

    ``last`` is the newest complete checkpoint there, whatever its name: an interruption may have
    come before ``last.ckpt`` was written, and of a damaged one the predecessor is taken.

    Args:
        run: The run folder.
        which: ``last``, ``best`` or a path.
        mode: Whether large (``max``) or small (``min``) scores are the best ones.

    Raises:
        FileNotFoundError: There is no such checkpoint; names what there is.
        ValueError: The file is damaged, or is no checkpoint of this program.
    """
    folder = run / CHECKPOINTS
    if which == "last":
        return _newest_complete(folder)
    if which == "best":
        scored = best_checkpoints(folder, mode)
        if not scored:
            raise FileNotFoundError(f"no best-*.ckpt in {folder}: no validation has been saved")
        found = scored[-1]
    else:
        found = Path(which)
    if not found.is_file():
        raise FileNotFoundError(f"no checkpoint at {found}{_there(found.parent)}")
    check_checkpoint(found)
    return found


def _newest_complete(folder: Path) -> Path:
    newest = _candidates(folder)
    if not newest:
        raise FileNotFoundError(f"no checkpoint at {folder / LAST}")
    problems = []
    for path in newest:
        try:
            check_checkpoint(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            rank_zero_warn(f"{problem}; taking {path.name}, the newest complete checkpoint")
        return path
    raise ValueError(f"no checkpoint in {folder} is complete: {problems[0]}")


def _candidates(folder: Path) -> list[Path]:
    """What ``last`` may be, the newest first; before them what cannot be read."""
    latest = latest_checkpoints(folder)[::-1]
    last = folder / LAST
    # Usually last.ckpt is another name of the newest step-*.ckpt.
    if last.is_file():
        is_newest = not latest or _age(last)[:2] >= _age(latest[0])[:2]
        latest.insert(0 if is_newest else len(latest), last)
    # A best one is only of use where validations came later than all others.
    newest = max((number_of(path) or 0 for path in latest), default=0)
    reached = max((step_of(p) for p in latest if (number_of(p) or 0) == newest), default=-1)
    best = sorted(folder.glob("best-*.ckpt"), key=_age, reverse=True)
    newer = [p for p in best if (number_of(p) or 0) >= newest and step_of(p) > reached]
    ordered = newer + latest + [path for path in best if path not in newer]
    return sorted(ordered, key=lambda path: number_of(path) is not None)


def _there(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.ckpt") if path.name[0] != ".")[:5]
    return f"; there are {', '.join(names)}" if names else ""


def check_checkpoint(path: Path) -> None:
    """Check that a run can go on from a file.

    Raises:
        ValueError: It is truncated, altered, or no checkpoint of this program.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or not a checkpoint: its end is missing")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()  # mapped, torch.load compares no checksums
    except Exception as error:  # torch, zipfile and pickle raise a dozen kinds on damaged files
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or not a checkpoint: {first[:200]}") from error
    if altered is not None:
        raise ValueError(f"{path} is damaged: the checksum of {altered} is wrong")
    if not isinstance(content, dict) or not {"state_dict", "loops"} <= content.keys():
        raise ValueError(
            f"{path} is not a checkpoint of this program; if it holds weights, as a released "
            "MVSplat checkpoint does, give it as --model.weights"
        )


def after_setting_aside(file: Path, run: Path) -> Path:
    """Where a file of a run folder is now, if the run that it belonged to may have been set aside.

    A new run may start from weights of the one whose folder it takes over.
    """
    if file.is_file() or not file.resolve().is_relative_to(run.resolve()):
        return file
    inside = file.resolve().relative_to(run.resolve())
    numbers = [int(path.name[8:]) for path in run.glob("earlier-*") if path.name[8:].isdecimal()]
    moved = [run / f"earlier-{number}" / inside for number in sorted(numbers)]
    return next((path for path in reversed(moved) if path.is_file()), file)
