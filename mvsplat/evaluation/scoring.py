"""Scores of every view, of the model and of what it has to beat.

A scene's result is a dictionary of numbers, so that it travels between processes and into JSON:
``scene``, ``context`` and ``target`` (frame numbers), ``timing``, and ``scores`` by method, each
with its target ``views`` (``frame`` and metrics) and the scene's ``mean`` of every metric;
``overlap`` and ``tier`` where the evaluation index has them; ``metrics``, how metrics that are not
the package's own are shown and judged; and ``failures``, what went wrong with a metric.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.wording import few
from mvsplat.evaluation import baselines
from mvsplat.evaluation.benchmark import Benchmark
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.evaluation.metric_table import (
    DESCRIPTIONS,
    LearnedDistance,
    Metric,
    as_json,
    in_order,
    with_standard,
)
from mvsplat.evaluation.view_scores import (
    Prediction,
    ViewScores,
    model_prediction,
    score_views,
)
from mvsplat.types import Batch, Views

Result = dict[str, Any]
_SHOWN = 5


@torch.no_grad()
def evaluate(
    model: Any,
    batches: Iterable[Batch],
    baselines: bool = False,
    lpips: Literal["vgg", "alex"] | None = None,
    lpips_weights: str | None = None,
    metrics: Iterable[Metric] | None = None,
) -> list[Result]:
    """Score a model on batches, as ``mvsplat test`` does.

    A metric that fails is warned of, and named in the results' ``failures``; all other scores are
    there.

    Args:
        model: A :class:`mvsplat.MVSplat`, in evaluation mode and on the batches' device.
        batches: The scenes, for instance a data module's ``test_dataloader()``.
        baselines: Also score what needs no learning, and the model without
            what its encoder can leave out (``Encoder.ablations``: our cost volume, zeroed).
        lpips: Network of the LPIPS score; None leaves it out.
        lpips_weights: File with that network's weights; by default PyTorch's hub cache.
        metrics: Metrics besides PSNR, SSIM and AbsRel; by default the model's.

    Raises:
        FileNotFoundError: LPIPS' weights are neither here nor can be downloaded.
        ValueError: A metric does not say how it is named, shown or judged, or its name is taken.
    """
    chosen = model.metrics if metrics is None else with_standard(metrics)
    if lpips is not None:
        distance = PerceptualDistance.pretrained(lpips, lpips_weights)
        chosen = (*chosen, LearnedDistance(distance))
    results: list[Result] = []
    with Benchmark(model) as benchmark:
        for batch in batches:
            gaussians = model.encoder(batch.context)
            rendering = model.render(gaussians, batch.target)
            timing = benchmark.of_last(batch, gaussians.means.shape[1])
            predictions = {"model": model_prediction(gaussians, rendering)}
            if baselines:
                estimate = predictions["model"].context_depth
                predictions |= baseline_predictions(batch, estimate)
                predictions |= ablated_predictions(model, batch)
            scored = score_by(chosen, batch, predictions)
            results += [result | {"timing": timing} for result in scored]
    for failure in failed_metrics(results):
        warnings.warn(failure, stacklevel=2)
    return results


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


def ablated_predictions(model: Any, batch: Batch) -> dict[str, Prediction]:
    """What the model says without one thing or another, by the encoder's names for it."""
    found = {}
    for name, without in model.encoder.ablations().items():
        with without:
            gaussians = model.encoder(batch.context)
            rendering = model.render(gaussians, batch.target)
        found[name] = model_prediction(gaussians, rendering)
    return found


def score_batch(
    batch: Batch,
    predictions: dict[str, Prediction],
    perceptual_distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    metrics: Iterable[Metric] = (),
) -> list[Result]:
    """The result of every scene of a batch, without its timing.

    Args:
        batch: The scenes.
        predictions: What methods say of them, by the method's name.
        perceptual_distance: Gives the LPIPS score, if there is to be one.
        metrics: Metrics besides PSNR, SSIM, LPIPS and AbsRel.
    """
    chosen = with_standard(metrics)
    if perceptual_distance is not None:
        chosen = (*chosen, LearnedDistance(perceptual_distance))
    return score_by(chosen, batch, predictions)


def score_by(
    metrics: Sequence[Metric],
    batch: Batch,
    predictions: dict[str, Prediction],
    done: Mapping[str, Mapping[str, ViewScores]] | None = None,
) -> list[Result]:
    """The result of every scene of a batch by these metrics only, without its timing.

    Args:
        metrics: All metrics that count.
        batch: The scenes.
        predictions: What methods say of them, by the method's name.
        done: Scores that are known already, by method and metric.
    """
    results: list[Result] = [
        {
            "scene": scene,
            "context": frame_numbers(batch.context, number),
            "target": frame_numbers(batch.target, number),
            "scores": {},
        }
        for number, scene in enumerate(batch.scene)
    ]
    by_name = {metric.name: metric for metric in metrics}
    metrics = [by_name[name] for name in in_order(by_name)]
    own = {m.name: as_json(m) for m in metrics if m.name not in DESCRIPTIONS}
    for method, prediction in predictions.items():
        scores = dict((done or {}).get(method, {}))
        scores |= score_views([m for m in metrics if m.name not in scores], prediction, batch)
        for number, result in enumerate(results):
            result["scores"][method] = _scene_scores(metrics, scores, number, result["target"])
            for metric in metrics:
                if (of := scores.get(metric.name)) and (failure := of.failures.get(number)):
                    text = failure if method == "model" else f"{failure} (of {method})"
                    result.setdefault("failures", {}).setdefault(metric.name, text)
            if own:
                result["metrics"] = own
    return results


def _scene_scores(
    metrics: Sequence[Metric], scores: dict[str, ViewScores], scene: int, frames: list[int]
) -> dict[str, Any]:
    mean, views = {}, [{"frame": frame} for frame in frames]
    for metric in metrics:
        if metric.name not in scores or not scores[metric.name].known[scene]:
            continue
        values = scores[metric.name].values[scene]
        if metric.needs_depth:  # of context views, which are not listed
            mean[metric.name] = float(scores[metric.name].means[scene])
            continue
        mean[metric.name] = fmean(values.tolist())
        for view, value in zip(views, values.tolist(), strict=True):
            view[metric.name] = value
    return {"mean": mean, "views": views}


def failed_metrics(results: Iterable[Result]) -> list[str]:
    """What went wrong with each metric that failed, and in which scenes."""
    failures: dict[str, tuple[str, list[str]]] = {}
    for result in results:
        for metric, failure in result.get("failures", {}).items():
            failures.setdefault(metric, (failure, []))[1].append(result["scene"])
    return [
        f"the metric {failure}; it failed in {few(scenes, _SHOWN)}"
        for failure, scenes in failures.values()
    ]


def frame_numbers(views: Views, scene: int) -> list[int]:
    """Frame numbers of a scene's views; without any, the views' positions."""
    if views.index is None:
        return list(range(views.image.shape[1]))
    return views.index[scene].tolist()
