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
from mvsplat.evaluation.means import DIGITS, METRICS
from mvsplat.evaluation.results_files import Results
from mvsplat.evaluation.scoring import Result
from mvsplat.evaluation.tables import score
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
    columns = [m for m in METRICS if any(m in row for row in comparison.means.values())]
    table.add_column("")
    for metric in columns:
        table.add_column(METRICS[metric], justify="right")
    for name, means in comparison.means.items():
        table.add_row(name, *(score(means[m], m) if m in means else "" for m in columns))
        differences = comparison.differences.get(name)
        if differences:
            found = [(differences.get(metric), metric) for metric in columns]
            table.add_row("  difference", *(_mean(*cell) for cell in found))
            table.add_row("  interval", *(_interval(*cell) for cell in found))
            wins = [_wins(difference) for difference, _ in found]
            table.add_row("  better / worse", *wins, end_section=True)
    return table


def scenes_table(comparison: Comparison, metric: str = "psnr", count: int = 10) -> "Table":
    """The scenes that differ most, with every run's score."""
    from rich.table import Table

    first = next(iter(comparison.runs))
    table = Table(title=f"Scenes that differ most in {METRICS[metric].split()[0]}")
    table.add_column("scene")
    for name in comparison.runs:
        table.add_column(name, justify="right")
    for name in comparison.differences:
        table.add_column(f"{name} - {first}", justify="right")
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    for scene in comparison.most_different(metric)[:count]:
        scores = [of_run[scene]["scores"]["model"]["mean"][metric] for of_run in of_runs]
        differences = [f"{value - scores[0]:+.{DIGITS[metric]}f}" for value in scores[1:]]
        table.add_row(scene, *(score(value, metric) for value in scores), *differences)
    return table


def save_comparison(comparison: Comparison, folder: str | Path) -> None:
    """Write ``comparison.json`` and ``comparison.csv``, which has a line a scene and metric."""
    folder = Path(folder)
    content = {
        "runs": {name: str(run.folder) for name, run in comparison.runs.items()},
        "incomplete": {n: run.missing() for n, run in comparison.runs.items() if not run.complete},
        "scenes": len(comparison.scenes),
        "mean": comparison.means,
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
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    folders = [run.folder for run in comparison.runs.values()]
    for scene in comparison.most_different(metric):
        if len(written) == count:
            break
        results = [of_run[scene] for of_run in of_runs]
        rows = _rows(dict(zip(comparison.runs, zip(folders, results, strict=True), strict=True)))
        if rows:
            path = Path(folder) / f"{len(written) + 1:02d}_{file_name(scene)}.png"
            save_png(sheet(rows), path)
            written.append(path)
    return written


def _rows(runs: dict[str, tuple[Path, Result]]) -> list[list[tuple[str, Tensor]]]:
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
            psnr = result["scores"]["model"]["views"][view]["psnr"]
            targets.append((f"target {frames[view]}", target))
            renderings.append((f"{name}, {psnr:.1f} dB", color))
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


def _mean(difference: Difference | None, metric: str) -> str:
    if difference is None or math.isnan(difference.mean):
        return ""
    text = f"{difference.mean:+.{DIGITS[metric]}f}"
    return f"[bold]{text}[/bold]" if difference.sure else text


def _interval(difference: Difference | None, metric: str) -> str:
    if difference is None or math.isnan(difference.low):
        return ""
    digits = DIGITS[metric]
    return f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}"


def _wins(difference: Difference | None) -> str:
    return "" if difference is None else f"{difference.better} / {difference.worse}"


def _csv(comparison: Comparison) -> str:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    first = next(iter(comparison.runs))
    changed = [f"{name} - {first}" for name in _others(comparison)]
    table.writerow(["scene", "metric", *comparison.runs, *changed])
    of_runs = [_by_scene(run) for run in comparison.runs.values()]
    for scene in comparison.scenes:
        for metric in METRICS:
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
