"""What there is to look at in files and folders: splats, their cameras, scores and pictures."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvsplat.export.cameras import cameras_of

_FOLDERS = ("", "predictions")
"""Where in a folder splats are looked for: a reconstruction's own folder, a run's predictions."""


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
    """Everything to look at in PLY files, folders of ``reconstruct`` and run folders.

    Raises:
        FileNotFoundError: A path is not there.
        ValueError: There are no paths, or one has no splat; says how to make one.
    """
    if not paths:
        raise ValueError(
            "nothing to look at: name a PLY file, a run folder or a folder written by reconstruct"
        )
    found = [(Path(path), _plys(Path(path))) for path in paths]
    names = _short_names([path for path, _ in found])
    return [
        item
        for (path, plys), result in zip(found, names, strict=True)
        for item in _items(path, plys, result)
    ]


def _plys(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_file():
        if path.suffix.lower() == ".ckpt":
            raise ValueError(
                f"{path} is a checkpoint, which has no scene: `mvsplat reconstruct PHOTOS "
                f"--checkpoint {path}` makes one, `mvsplat predict` those of a data set"
            )
        return [path]
    for folder in _FOLDERS:
        if plys := sorted(p for p in (path / folder).glob("*.ply") if p.name[0] != "."):
            return plys
    hint = (
        f"; write the scenes of this run with `mvsplat predict --config {path}/config.yaml "
        f"--run_dir {path} --ckpt_path last`"
        if (path / "config.yaml").is_file()
        else ", nor has its folder predictions"
    )
    raise ValueError(f"{path} has no PLY file{hint}")


def _items(path: Path, plys: list[Path], result: str) -> Iterator[Item]:
    if path.is_file():
        yield Item(result, path.stem, path, cameras_of(path))
        return
    tests = list(_tests(path))
    for ply in plys:
        scene = path.name if [ply.name] == [p.name for p in plys] == ["scene.ply"] else ply.stem
        sheet: Path | None = None
        scores: dict[str, float] = {}
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
