"""A comparison of runs as tables, as files, and as pictures of the scenes that differ most."""

import csv
import json
import math
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvsplat.evaluation.comparison import Comparison, Difference
from mvsplat.evaluation.json_numbers import finite
from mvsplat.evaluation.metric_table import MetricDescription
from mvsplat.evaluation.results_files import Results
from mvsplat.evaluation.scoring import Result
from mvsplat.export.images import color_error, save_png, sheet
from mvsplat.files import file_name, replacing

if TYPE_CHECKING:
    from rich.table import Table

_VIEWS = 4
"""Target views of a scene in its picture."""


def means_table(comparison: Comparison) -> "Table":
    """Every run's mean scores, and how the others differ from the first."""
    from rich.table import Table

    first = next(iter(comparison.runs))
    count = len(comparison.scenes)
    table = Table(title=f"{count} scene{'s' if count > 1 else ''}; differences from {first}")
    columns = comparison.metrics
    table.add_column("")
    for shown in columns.values():
        table.add_column(shown.column, justify="right")
    for name, means in comparison.means.items():
        table.add_row(name, *(s.number(means[m]) if m in means else "" for m, s in columns.items()))
        differences = comparison.differences.get(name)
        if differences:
            found = [(differences.get(metric), shown) for metric, shown in columns.items()]
            table.add_row("  difference", *(_mean(*cell) for cell in found))
            table.add_row("  interval", *(_interval(*cell) for cell in found))
            wins = [_wins(difference) for difference, _ in found]
            table.add_row("  better / worse", *wins, end_section=True)
    return table


def scenes_table(comparison: Comparison, metric: str = "psnr", count: int = 10) -> "Table":
    """The scenes that differ most, with every run's score."""
    from rich.table import Table

    first = next(iter(comparison.runs))
    scenes = comparison.most_different(metric)[:count]
    shown = comparison.metrics[metric]
    table = Table(title=f"Scenes that differ most in {shown.heading}")
    table.add_column("scene")
    for name in comparison.runs:
        table.add_column(name, justify="right")
    for name in comparison.differences:
        table.add_column(f"{name} - {first}", justify="right")
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    for scene in scenes:
        scores = [of_run[scene]["scores"]["model"]["mean"][metric] for of_run in of_runs]
        differences = [shown.number(value - scores[0], "+") for value in scores[1:]]
        table.add_row(scene, *map(shown.number, scores), *differences)
    return table


def save_comparison(comparison: Comparison, folder: str | Path) -> None:
    """Write ``comparison.json`` and ``comparison.csv``, which has a line a scene and metric."""
    folder = Path(folder)
    content = {
        "runs": {name: str(run.folder) for name, run in comparison.runs.items()},
        "incomplete": {n: run.missing() for n, run in comparison.runs.items() if not run.complete},
        "scenes": len(comparison.scenes),
        "mean": comparison.means,
        "metrics": {name: asdict(shown) for name, shown in comparison.metrics.items()},
        "differences": {
            name: {metric: asdict(difference) for metric, difference in differences.items()}
            for name, differences in comparison.differences.items()
        },
    }
    with replacing(folder / "comparison.json") as temporary:
        text = json.dumps(finite(content), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with replacing(folder / "comparison.csv") as temporary:
        temporary.write_text(_csv(comparison), encoding="utf-8")


def save_pictures(
    comparison: Comparison, folder: str | Path, metric: str = "psnr", count: int = 5
) -> list[Path]:
    """Write a sheet for each of the scenes that differ most, as far as all runs have pictures.

    A sheet has a row for a target view: the photograph, every run's rendering, every run's error.

    Returns:
        The files, most different scene first.
    """
    written: list[Path] = []
    scenes = comparison.most_different(metric)
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    folders = [run.folder for run in comparison.runs.values()]
    for scene in scenes:
        if len(written) == count:
            break
        results = [of_run[scene] for of_run in of_runs]
        runs = dict(zip(comparison.runs, zip(folders, results, strict=True), strict=True))
        rows = _rows(runs, metric, comparison.metrics[metric])
        if rows:
            path = Path(folder) / f"{len(written) + 1:02d}_{file_name(scene)}.png"
            save_png(sheet(rows), path)
            written.append(path)
    return written


def _rows(
    runs: dict[str, tuple[Path, Result]], metric: str, shown: MetricDescription
) -> list[list[tuple[str, Tensor]]]:
    """The rows of a scene's sheet; none where a run has no pictures of it."""
    frames = next(iter(runs.values()))[1]["target"]
    chosen = np.linspace(0, len(frames) - 1, min(_VIEWS, len(frames))).round().astype(int).tolist()
    rows = []
    for view in chosen:
        renderings, errors, targets = [], [], []
        for name, (folder, result) in runs.items():
            stem = folder / result.get("files", {}).get("images", "none") / f"{frames[view]:06d}"
            color = _read(stem.with_suffix(".png"))
            target = _read(stem.with_name(f"{stem.name}_target.png"))
            if color is None or target is None or color.shape != target.shape:
                return []
            score = result["scores"]["model"]["views"][view].get(metric)
            label = name if score is None else f"{name}, {shown.brief(score)}"
            targets.append((f"target {frames[view]}", target))
            renderings.append((label, color))
            errors.append((f"error of {name}", color_error(color, target)))
        rows.append([targets[0], *renderings, *errors])
    return rows


def _read(path: Path) -> Tensor | None:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError:
        return None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def _mean(difference: Difference | None, metric: MetricDescription) -> str:
    if difference is None or math.isnan(difference.mean):
        return ""
    text = metric.number(difference.mean, "+")
    return f"[bold]{text}[/bold]" if difference.sure else text


def _interval(difference: Difference | None, metric: MetricDescription) -> str:
    if difference is None or math.isnan(difference.low):
        return ""
    return f"{metric.number(difference.low, '+')} to {metric.number(difference.high, '+')}"


def _wins(difference: Difference | None) -> str:
    if difference is None:
        return ""
    known = difference.better is not None
    return f"{difference.better} / {difference.worse}" if known else "which is?"


def _csv(comparison: Comparison) -> str:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    first = next(iter(comparison.runs))
    changed = [f"{name} - {first}" for name in _others(comparison)]
    table.writerow(["scene", "metric", *comparison.runs, *changed])
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    for scene in comparison.scenes:
        for metric in comparison.metrics:
            values = [of_run[scene]["scores"]["model"]["mean"].get(metric) for of_run in of_runs]
            if any(value is not None for value in values):
                differences = [comparison.differences[n].get(metric) for n in _others(comparison)]
                changes = [d.scenes.get(scene, "") if d is not None else "" for d in differences]
                row = ["" if value is None else value for value in values]
                table.writerow([scene, metric, *row, *changes])
    return text.getvalue()


def _others(comparison: Comparison) -> list[str]:
    return list(comparison.differences)


def _by_scene(run: Results) -> dict[str, Result]:
    return {result["scene"]: result for result in run.scenes}
