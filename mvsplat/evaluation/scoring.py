"""Scores of every view, of the model and of what it has to beat.

A scene's result is a dictionary of numbers, so that it travels between processes and into JSON:
``scene``, ``context`` and ``target`` (frame numbers), ``timing``, and ``scores`` by method, each
with its target ``views`` (``frame`` and metrics) and the scene's ``mean`` of every metric; and
``overlap`` and ``tier`` where the evaluation index has them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.evaluation import baselines, metrics
from mvsplat.evaluation.benchmark import Benchmark
from mvsplat.types import Batch, Gaussians, Rendering, Views

Result = dict[str, Any]


@dataclass
class Prediction:
    """What a method says of a batch: the target views, and the context views' depth if known."""

    color: Float[Tensor, "b v 3 h w"]
    context_depth: Float[Tensor, "b c h w"] | None = None


@torch.no_grad()
def evaluate(
    model: Any,
    batches: Iterable[Batch],
    baselines: bool = False,
    lpips: Literal["vgg", "alex"] | None = None,
    lpips_weights: str | None = None,
) -> list[Result]:
    """Score a model on batches, as ``mvsplat test`` does.

    Args:
        model: A :class:`mvsplat.MVSplat`, in evaluation mode and on the batches' device.
        batches: The scenes, for instance a data module's ``test_dataloader()``.
        baselines: Also score what needs no learning, and the model with its cost volume zeroed.
        lpips: Network of the LPIPS score; None leaves it out.
        lpips_weights: File with that network's weights; by default PyTorch's hub cache.

    Raises:
        FileNotFoundError: LPIPS' weights are neither here nor can be downloaded.
    """
    from mvsplat.evaluation.lpips import PerceptualDistance

    distance = lpips and PerceptualDistance.pretrained(lpips, lpips_weights)
    results = []
    with Benchmark(model) as benchmark:
        for batch in batches:
            gaussians = model.encoder(batch.context)
            rendering = model.render(gaussians, batch.target)
            timing = benchmark.of_last(batch, gaussians.means.shape[1])
            predictions = {"model": model_prediction(gaussians, rendering)}
            if baselines:
                estimate = predictions["model"].context_depth
                predictions |= baseline_predictions(batch, estimate)
                predictions |= zeroed_prediction(model, batch)
            scored = score_batch(batch, predictions, distance)
            results += [result | {"timing": timing} for result in scored]
    return results


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


def zeroed_prediction(model: Any, batch: Batch) -> dict[str, Prediction]:
    """What the model says if it cannot match: its cost volume is zeros (nothing, without one)."""
    cost_volume = getattr(model.encoder, "cost_volume", None)
    if not isinstance(cost_volume, nn.Module):
        return {}
    hook = cost_volume.register_forward_hook(lambda _, __, volume: torch.zeros_like(volume))
    try:
        gaussians = model.encoder(batch.context)
        rendering = model.render(gaussians, batch.target)
    finally:
        hook.remove()
    return {"zeroed_cost_volume": model_prediction(gaussians, rendering)}


def score_batch(
    batch: Batch,
    predictions: dict[str, Prediction],
    perceptual_distance: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[Result]:
    """The result of every scene of a batch, without its timing."""
    results: list[Result] = [
        {
            "scene": scene,
            "context": frame_numbers(batch.context, number),
            "target": frame_numbers(batch.target, number),
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


def frame_numbers(views: Views, scene: int) -> list[int]:
    """Frame numbers of a scene's views; without any, the views' positions."""
    if views.index is None:
        return list(range(views.image.shape[1]))
    return views.index[scene].tolist()


def _depth_errors(batch: Batch, prediction: Prediction) -> list[float] | None:
    """AbsRel of each scene, the mean over the context views that have a known depth."""
    if batch.context.depth is None or prediction.context_depth is None:
        return None
    errors = metrics.abs_rel(prediction.context_depth.float(), batch.context.depth)
    return errors.nanmean(dim=1).tolist()
