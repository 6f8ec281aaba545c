"""Results as files: ``scores.json`` with everything, ``scores.csv`` with a line a view."""

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from mvsplat.data.wording import few
from mvsplat.evaluation.journal import journals, read_journals
from mvsplat.evaluation.json_numbers import finite
from mvsplat.evaluation.means import (
    extreme_scenes,
    groups,
    mean_scores,
    median_timing,
    merge,
    metrics_of,
)
from mvsplat.evaluation.metric_table import DESCRIPTIONS, TABLE, in_order
from mvsplat.evaluation.photo_scores import is_photo_scores, results_of
from mvsplat.evaluation.scoring import Result, failed_metrics
from mvsplat.files import replacing

FILE_NAME = "scores.json"
FOLDER = "test"
"""Where ``test`` writes in a run folder, unless told otherwise."""
_SHOWN = 5
_TOLD_ABOVE = ("scene", "metrics")  # keys of a scene's result that its entry need not repeat


@dataclass
class Results:
    """The results of a test.

    Args:
        scenes: A result a scene.
        settings: What they were made with.
        folder: Where they were read from; paths of pictures start there.
        left_out: Scenes that were to be tested and could not be: from the name to ``reason`` and
            ``detail``.
        interrupted: Why the test ended before all scenes were done; empty where it did not.
    """

    scenes: list[Result]
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    interrupted: str = ""

    @property
    def complete(self) -> bool:
        """Whether every scene that was to be tested was, by every metric."""
        return not self.left_out and not self.interrupted and not self.failures

    @property
    def failures(self) -> list[str]:
        """What went wrong with each metric that failed, and in which scenes."""
        return failed_metrics(self.scenes)

    def missing(self) -> str:
        """What is missing of incomplete results: ``1 scene left out: ff (damaged)``."""
        count = len(self.left_out)
        names = [f"{name} ({why['reason']})" for name, why in self.left_out.items()]
        parts = [f"the test did not end: {self.interrupted}"] if self.interrupted else []
        if count:
            found = few(names, _SHOWN)
            parts.append(f"{count} scene{'s' if count > 1 else ''} left out: {found}")
        return "; ".join(parts + self.failures)

    @property
    def mean(self) -> dict[str, dict[str, float]]:
        """Of every method and metric, the mean over scenes of the scenes' means."""
        return mean_scores(self.scenes)


def save_results(results: Results, path: str | Path) -> None:
    """Write ``path`` (JSON) with everything, and beside it a CSV with a line a view and method."""
    path, scenes = Path(path), results.scenes
    lowest, highest = extreme_scenes(scenes) if _of_a_model(scenes) else ([], [])
    content = {
        "settings": results.settings,
        "complete": results.complete,
        "interrupted": results.interrupted or None,
        "scenes_tested": len(scenes),
        "left_out": results.left_out,
        "metrics": {n: asdict(m) for n, m in metrics_of(scenes).items()},
        "mean": mean_scores(scenes),
        "groups": {
            kind: {
                label: {"scenes": len(members), "mean": mean_scores(members)}
                for label, members in found.items()
            }
            for kind, found in groups(scenes).items()
        },
        "lowest_psnr": [result["scene"] for result in lowest],
        "highest_psnr": [result["scene"] for result in highest],
        "timing": median_timing(scenes),
        "scenes": {r["scene"]: {k: r[k] for k in r if k not in _TOLD_ABOVE} for r in scenes},
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    with replacing(path.with_suffix(".csv")) as temporary:
        temporary.write_text(_csv(scenes), encoding="utf-8")


def load_results(path: str | Path) -> Results:
    """Read the results of a run, or the scores of a scene that ``reconstruct`` wrote.

    Args:
        path: A run folder, a folder of results, a folder of ``reconstruct``, or a ``scores.json``.

    Raises:
        FileNotFoundError: There are no results.
        ValueError: The file is damaged, or something else.
    """
    file = _find(Path(path))
    if journals(file.parent):
        scenes = merge(
            [checked_result(r["scene"], r) for r in of] for of in read_journals(file.parent)
        )
        return Results(scenes, folder=file.parent, interrupted="it is running, or was killed")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged, or no JSON file: {error}") from error
    try:
        if is_photo_scores(content):
            found = results_of(content, file)
            return Results([checked_result(r["scene"], r) for r in found], folder=file.parent)
        own = {n: m for n, m in content.get("metrics", {}).items() if n not in DESCRIPTIONS}
        told = {"metrics": own} if own else {}
        scenes = [checked_result(name, entry | told) for name, entry in content["scenes"].items()]
        metrics_of(scenes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} does not hold the results of a test: {error!r}") from error
    return Results(
        scenes,
        content.get("settings") or {},
        file.parent,
        content.get("left_out") or {},
        content.get("interrupted") or "",
    )


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for file in (path / FILE_NAME, path / FOLDER / FILE_NAME):
        if file.is_file() or journals(file.parent):
            return file
    if not path.exists():
        raise FileNotFoundError(f"there is no run {path}")
    raise FileNotFoundError(
        f"{path} has no results: there is no {FOLDER}/{FILE_NAME} in it; "
        "`mvsplat test` with the run's configuration writes them"
    )


def checked_result(name: str, entry: dict[str, Any]) -> Result:
    """A scene's result as JSON has it; scores that were not finite, null in JSON, are NaN again."""
    scores = {
        method: {
            "mean": _numbers(scores["mean"]),
            "views": [_numbers(view) for view in scores["views"]],
        }
        for method, scores in entry["scores"].items()
    }
    frames = {kind: [int(frame) for frame in entry[kind]] for kind in ("context", "target")}
    return {**entry, **frames, "scene": name, "scores": scores}


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in values.items()}


def _of_a_model(scenes: list[Result]) -> bool:
    return all("model" in result["scores"] for result in scenes)


def _csv(results: list[Result]) -> str:
    text = StringIO()
    in_table = [metric.name for metric in TABLE if not metric.needs_depth]
    views = [v for r in results for scores in r["scores"].values() for v in scores["views"]]
    names = in_order([*in_table, *(name for view in views for name in view if name != "frame")])
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["scene", "method", "frame", *names])
    for result in results:
        for method, scores in result["scores"].items():
            for view in scores["views"]:
                values = [view.get(name, "") for name in names]
                table.writerow([result["scene"], method, view["frame"], *values])
    return text.getvalue()
