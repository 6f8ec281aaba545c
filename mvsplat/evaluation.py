"""The results of a test: scores of every view, means the way papers count, a table and files.

A scene's result is a dictionary of numbers, so that it travels between processes and into JSON:
``scene``, ``context`` and ``target`` (frame numbers), ``timing``, and ``scores`` by method, each
with its target ``views`` (``frame`` and metrics) and the scene's ``mean`` of every metric.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from mvsplat import baselines, metrics
from mvsplat.export.files import replacing
from mvsplat.types import Batch, Gaussians, Rendering, Views

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "abs_rel": "AbsRel ↓"}
METHODS = {
    "model": "model",
    "zeroed_cost_volume": "model, cost volume zeroed",
    "median_plane": "plane at the median depth",
    "nearest_view": "nearest context view",
    "mean_color": "mean colour",
}
_DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "abs_rel": 3}
Result = dict[str, Any]


@dataclass
class Prediction:
    """What a method says of a batch: the target views, and the context views' depth if known."""

    color: Float[Tensor, "b v 3 h w"]
    context_depth: Float[Tensor, "b c h w"] | None = None


def model_prediction(gaussians: Gaussians, rendering: Rendering) -> Prediction:
    """What the model says."""
    depth = None if gaussians.estimate is None else gaussians.estimate.depth
    return Prediction(rendering.color, depth)


def baseline_predictions(
    batch: Batch, estimate: Float[Tensor, "b c h w"] | None
) -> dict[str, Prediction]:
    """The baselines by name; ``estimate`` serves the plane where the data has no depth.

    The plane is left out where no depth is known at all.
    """
    found = {
        "nearest_view": Prediction(baselines.nearest_view(batch)),
        "mean_color": Prediction(baselines.mean_color(batch)),
    }
    if batch.context.depth is not None or estimate is not None:
        plane = baselines.scene_depth(batch.context, estimate)
        b, c, _, h, w = batch.context.image.shape
        depth = plane.view(b, 1, 1, 1).expand(b, c, h, w)
        found["median_plane"] = Prediction(baselines.median_plane(batch, estimate), depth)
    return found


def score_batch(
    batch: Batch,
    predictions: dict[str, Prediction],
    perceptual_distance: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[Result]:
    """The result of every scene of a batch, without its timing."""
    results: list[Result] = [
        {
            "scene": scene,
            "context": _frames(batch.context, number),
            "target": _frames(batch.target, number),
            "scores": {},
        }
        for number, scene in enumerate(batch.scene)
    ]
    for method, prediction in predictions.items():
        color, truth = prediction.color.clamp(0, 1).float(), batch.target.image
        values = {"psnr": metrics.psnr(color, truth), "ssim": metrics.ssim(color, truth)}
        if perceptual_distance is not None:
            values["lpips"] = perceptual_distance(color, truth)
        of_views = {name: value.tolist() for name, value in values.items()}
        depth_errors = _depth_errors(batch, prediction)
        for number, result in enumerate(results):
            of_scene = {name: value[number] for name, value in of_views.items()}
            mean = {name: fmean(value) for name, value in of_scene.items()}
            if depth_errors is not None and not math.isnan(depth_errors[number]):
                mean["abs_rel"] = depth_errors[number]
            views = [
                {"frame": frame, **dict(zip(of_scene, view, strict=True))}
                for frame, *view in zip(result["target"], *of_scene.values(), strict=True)
            ]
            result["scores"][method] = {"mean": mean, "views": views}
    return results


def _frames(views: Views, scene: int) -> list[int]:
    """Frame numbers; without any, the views' positions."""
    if views.index is None:
        return list(range(views.image.shape[1]))
    return views.index[scene].tolist()


def _depth_errors(batch: Batch, prediction: Prediction) -> list[float] | None:
    """AbsRel of each scene, the mean over the context views that have a known depth."""
    if batch.context.depth is None or prediction.context_depth is None:
        return None
    errors = metrics.abs_rel(prediction.context_depth.float(), batch.context.depth)
    return errors.nanmean(dim=1).tolist()


def merge(of_processes: Iterable[list[Result]]) -> list[Result]:
    """All processes' results, each exactly once, ordered by scene.

    Samplers that give all processes equally many scenes repeat some: what several processes have of
    the same scene and frames counts once. A scene that is tested twice becomes ``scene#2``.
    """
    merged: dict[str, Result] = {}
    kept: list[Result] = []
    seen: set[tuple] = set()
    for results in of_processes:
        identities = [(r["scene"], *r["context"], None, *r["target"]) for r in results]
        kept += [r for r, known in zip(results, identities, strict=True) if known not in seen]
        seen.update(identities)
    for result in sorted(kept, key=lambda result: result["scene"]):
        name, number = result["scene"], 1
        while name in merged:
            number += 1
            name = f"{result['scene']}#{number}"
        merged[name] = result | {"scene": name}
    return list(merged.values())


def mean_scores(results: list[Result]) -> dict[str, dict[str, float]]:
    """Of every method and metric, the mean over scenes of the scenes' means."""
    means: dict[str, dict[str, float]] = {}
    for method in sorted({m for result in results for m in result["scores"]}, key=_order):
        of_scenes = [r["scores"][method]["mean"] for r in results if method in r["scores"]]
        means[method] = {
            metric: fmean(values)
            for metric in METRICS
            if (values := [scene[metric] for scene in of_scenes if metric in scene])
        }
    return means


def _order(method: str) -> tuple[int, str]:
    known = list(METHODS)
    return (known.index(method) if method in known else len(known), method)


def median_timing(results: list[Result]) -> dict[str, float]:
    """Median times; a process's first batch, which warms up, counts only if there is no other."""
    timings = [r["timing"] for r in results if "timing" in r]
    warm = [timing for timing in timings if not timing["warm_up"]] or timings
    names = [name for name in (warm[0] if warm else {}) if name != "warm_up"]
    return {name: median(timing[name] for timing in warm) for name in names}


def write_scores(path: Path, results: list[Result], settings: dict[str, Any]) -> None:
    """``scores.json`` with everything, and ``scores.csv`` with a line a view and method."""
    content = {
        "settings": settings,
        "scenes_tested": len(results),
        "mean": mean_scores(results),
        "timing": median_timing(results),
        "scenes": {r["scene"]: {k: v for k, v in r.items() if k != "scene"} for r in results},
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")
    with replacing(path.with_suffix(".csv")) as temporary:
        temporary.write_text(_csv(results))


def _finite(value: Any) -> Any:
    """JSON has no NaN: scores of pictures that are not finite become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(results: list[Result]) -> str:
    text = StringIO()
    names = ["psnr", "ssim", "lpips"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["scene", "method", "frame", *names])
    for result in results:
        for method, scores in result["scores"].items():
            for view in scores["views"]:
                values = [view.get(name, "") for name in names]
                table.writerow([result["scene"], method, view["frame"], *values])
    return text.getvalue()


def results_table(results: list[Result]) -> "Table":
    """The mean scores as a table for the terminal, the best of each column in bold."""
    from rich.table import Table

    means = mean_scores(results)
    columns = [metric for metric in METRICS if any(metric in row for row in means.values())]
    best = {
        metric: (min if "↓" in METRICS[metric] else max)(
            row[metric] for row in means.values() if metric in row
        )
        for metric in columns
    }
    scenes = "1 scene" if len(results) == 1 else f"{len(results)} scenes"
    table = Table(title=f"Mean over {scenes}")
    table.add_column("")
    for metric in columns:
        table.add_column(METRICS[metric], justify="right")
    for method, row in means.items():
        cells = []
        for metric in columns:
            text = f"{row[metric]:.{_DIGITS[metric]}f}" if metric in row else ""
            cells.append(f"[bold]{text}[/bold]" if row.get(metric) == best[metric] else text)
        table.add_row(METHODS.get(method, method), *cells)
    return table


def extreme_scenes(results: list[Result], count: int = 3) -> list[str]:
    """The scenes with the model's lowest and highest PSNR: two lines, none for a single scene."""
    ranked = sorted(results, key=lambda result: result["scores"]["model"]["mean"]["psnr"])
    count = min(count, len(ranked) // 2)
    if count == 0:
        return []

    def line(chosen: list[Result]) -> str:
        values = ((r["scene"], r["scores"]["model"]["mean"]["psnr"]) for r in chosen)
        return ", ".join(f"{scene} {psnr:.2f} dB" for scene, psnr in values)

    return [
        f"lowest PSNR:  {line(ranked[:count])}",
        f"highest PSNR: {line(ranked[: -count - 1 : -1])}",
    ]
