"""What there is to look at in files and folders: splats, their cameras, scores and pictures."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvsplat.evaluation.photo_scores import FILE_NAME as PHOTO_SCORES
from mvsplat.evaluation.photo_scores import METRICS
from mvsplat.export.cameras import cameras_of
from mvsplat.export.foreign_splats import SUFFIXES as FOREIGN
from mvsplat.export.splat_registry import is_readable
from mvsplat.export.splats import check_splat

_FOLDERS = ("", "predictions")
"""Where in a folder splats are looked for: a reconstruction's own folder, a run's predictions."""
_TOLD = 4
_log = logging.getLogger("mvsplat.viewer")


@dataclass(frozen=True)
class Item:
    """One splat file and what lies around it.

    Args:
        result: Name of the file or folder it was found in.
        scene: Name of the scene.
        ply: The splat.
        cameras: The cameras' JSON file, where there is one.
        sheet: The picture that ``test`` made of the scene.
        scores: The model's mean scores of the scene.
    """

    result: str
    scene: str
    ply: Path
    cameras: Path | None = None
    sheet: Path | None = None
    scores: dict[str, float] = field(default_factory=dict)


def find_items(paths: Sequence[str | Path]) -> list[Item]:
    """Everything to look at in splat files, folders of ``reconstruct`` and run folders.

    Splats that cannot be read are left out with a warning, as long as there are others.

    Raises:
        FileNotFoundError: A path is not there.
        ValueError: There are no paths, one has no splat, or none can be read; says what to do.
    """
    if not paths:
        raise ValueError(
            "nothing to look at: name a splat, a run folder or a folder written by reconstruct"
        )
    problems: list[str] = []
    found = [(Path(path), _splats(Path(path), problems)) for path in paths]
    names = _short_names([path for path, _ in found])
    items = [
        item
        for (path, splats), result in zip(found, names, strict=True)
        for item in _items(path, splats, result)
    ]
    if not items:
        more = [f"... and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        raise ValueError("\n".join([*problems[:_TOLD], *more]))
    for problem in problems:
        _log.warning("left out: %s", problem)
    return items


def _splats(path: Path, problems: list[str]) -> list[Path]:
    """The splats at a path that can be read; what is wrong with others joins the problems."""
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_file():
        if path.suffix.lower() == ".ckpt":
            raise ValueError(
                f"{path} is a checkpoint, which has no scene: `mvsplat reconstruct PHOTOS "
                f"--checkpoint {path}` makes one, `mvsplat predict` those of a data set"
            )
        return _readable([path], problems)
    before = len(problems)
    for folder in _FOLDERS:
        if splats := _readable(_candidates(path / folder), problems):
            return splats
    if len(problems) > before:
        return []
    hint = (
        f"; write the scenes of this run with `mvsplat predict --config {path}/config.yaml "
        f"--run_dir {path} --ckpt_path last`"
        if (path / "config.yaml").is_file()
        else ", nor has its folder predictions" + _hint_below(path)
    )
    raise ValueError(f"{path} has no splat{hint}")


def _candidates(folder: Path) -> list[Path]:
    """Files that are named like splats, of formats that are read and of others.

    Pages are copies to send: they are of interest where there is nothing else.
    """
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    found = sorted(path for path in files if is_readable(path) or path.suffix.lower() in FOREIGN)
    return [path for path in found if path.suffix.lower() != ".html"] or found


def _readable(candidates: list[Path], problems: list[str]) -> list[Path]:
    readable = []
    for path in candidates:
        try:
            check_splat(path)
            readable.append(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return readable


def _hint_below(path: Path) -> str:
    """Where splats are farther down, as 3DGS's own program writes them."""
    for pattern in ("*/*", "*/*/*"):
        splats = filter(is_readable, path.glob(pattern))
        if below := sorted(splats, key=lambda p: (len(p.parent.name), p)):
            return f"; did you mean {below[-1]}?"
    return ""


def _items(path: Path, splats: list[Path], result: str) -> Iterator[Item]:
    tests = [] if path.is_file() else list(_tests(path))
    stems = [splat.stem for splat in splats]
    for ply in splats:
        only = not path.is_file() and len(splats) == 1 and ply.stem in ("scene", "meta")
        own = ply.stem if stems.count(ply.stem) == 1 else ply.name
        scene = path.name if only else own
        sheet: Path | None = None
        scores = _scores_of_photos(path) if only else {}
        for folder, scenes in tests:
            picture = folder / "sheets" / f"{ply.stem}.png"
            sheet = sheet or (picture if picture.is_file() else None)
            scores = scores or _mean_scores(scenes, ply.stem)
        yield Item(result, scene, ply, cameras_of(ply), sheet, scores)


def _tests(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of a run's tests, and each one's scenes."""
    for path in sorted(run.glob("*/scores.json")):
        try:
            scenes = json.loads(path.read_text(encoding="utf-8")).get("scenes", {})
        except (ValueError, OSError, AttributeError):
            continue  # somebody else's file, or half a file of a test that is running
        yield path.parent, scenes if isinstance(scenes, dict) else {}


def _scores_of_photos(folder: Path) -> dict[str, float]:
    """Mean scores of a reconstruction's photos held out, if there are any."""
    try:
        content = json.loads((folder / PHOTO_SCORES).read_text(encoding="utf-8"))
        mean = content["after" if content["kept"] else "before"]
        return {name: float(mean[name]) for name in METRICS}
    except (ValueError, OSError, KeyError, TypeError):
        return {}


def _mean_scores(scenes: dict[str, Any], scene: str) -> dict[str, float]:
    try:
        mean = scenes[scene]["scores"]["model"]["mean"]
        return {name: float(value) for name, value in mean.items() if value is not None}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _short_names(paths: list[Path]) -> list[str]:
    """For each path as many of its last parts as tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(p[-length:] == own[-length:] for p in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names
