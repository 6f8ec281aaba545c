"""The scores of a batch's views by every metric; one that fails takes no other score with it."""

import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.evaluation.metric_table import Metric, label
from mvsplat.types import Batch, Gaussians, Rendering

_LONGEST_MESSAGE = 200


@dataclass
class Prediction:
    """What a method says of a batch: the target views, and the context views' depth if known."""

    color: Float[Tensor, "b v 3 h w"]
    context_depth: Float[Tensor, "b c h w"] | None = None


@dataclass
class ViewScores:
    """A metric's scores in a batch.

    Args:
        values: The scores; NaN where there is nothing to compare, or no picture to speak of.
        means: Each scene's mean over those of its views that have anything to compare.
        known: The scenes that have a score.
        failures: What went wrong with which metric, by the scene's place in the batch.
    """

    values: Float[Tensor, "b v"]
    means: Float[Tensor, " b"]
    known: Bool[Tensor, " b"]
    failures: dict[int, str]


def model_prediction(gaussians: Gaussians, rendering: Rendering) -> Prediction:
    """What the model says."""
    depth = None if gaussians.estimate is None else gaussians.estimate.depth
    return Prediction(rendering.color, depth)


def score_views(
    metrics: Iterable[Metric], prediction: Prediction, batch: Batch
) -> dict[str, ViewScores]:
    """Each metric's scores by its name, without those that need a depth which is not there."""
    found = {}
    for metric in metrics:
        pair = _compared(metric, prediction, batch)
        if pair is not None:
            found[metric.name] = _score(metric, *pair)
    return found


def _compared(metric: Metric, prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor] | None:
    """What a metric compares with what."""
    if not metric.needs_depth:
        return prediction.color.clamp(0, 1).float(), batch.target.image
    if prediction.context_depth is None or batch.context.depth is None:
        return None
    return prediction.context_depth.float(), batch.context.depth


def _score(metric: Metric, prediction: Tensor, truth: Tensor) -> ViewScores:
    scenes, views = truth.shape[:2]
    try:
        # A network's precision, bfloat16, say, is none to measure in.
        with torch.autocast(prediction.device.type, enabled=False):
            values = metric.score(prediction, truth)
        problem = _misshapen(values, scenes, views)
    except Exception as error:  # somebody else's code: it may raise anything
        problem = f"it raised {_raised(metric, error)}"
    if problem:
        failures = dict.fromkeys(range(scenes), problem)
        values = truth.new_full((scenes, views), torch.nan, dtype=torch.float32)
    else:
        values = values.float()
        failures = _not_finite(values, prediction, may_be_nan=metric.needs_depth)
    # A picture that is not finite makes its scene's mean NaN; an unknown depth only drops out.
    means = values.nanmean(dim=1) if metric.needs_depth else values.mean(dim=1)
    known = ~means.isnan() if metric.needs_depth else torch.ones_like(means, dtype=torch.bool)
    for scene in failures:
        known[scene] = False
    named = {scene: f"{label(metric)}: {failure}" for scene, failure in failures.items()}
    return ViewScores(values, means, known, named)


def _misshapen(values: Any, scenes: int, views: int) -> str:
    expected = f"expected a tensor of shape [{scenes}, {views}] (scenes, views)"
    if not isinstance(values, Tensor):
        return f"it gave a {type(values).__name__}, {expected}"
    return "" if values.shape == (scenes, views) else f"it gave {list(values.shape)}, {expected}"


def _not_finite(values: Tensor, prediction: Tensor, may_be_nan: bool) -> dict[int, str]:
    """What is wrong with scores of pictures that are finite, by scene."""
    wrong = values.isinf() if may_be_nan else ~values.isfinite()
    if not wrong.any():
        return {}
    wrong &= prediction.flatten(2).isfinite().all(dim=-1)
    return {
        scene: f"it gave {float(values[scene, view])} for view {view}, expected a finite number"
        for scene, view in reversed(wrong.nonzero().tolist())  # the first view is named
    }


def _raised(metric: Metric, error: Exception) -> str:
    """An exception in a line, with the last place in the metric's own file."""
    first = next(iter(str(error).splitlines()), "")
    file = getattr(sys.modules[type(metric).__module__], "__file__", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    where = f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {first[:_LONGEST_MESSAGE]}{where}"
