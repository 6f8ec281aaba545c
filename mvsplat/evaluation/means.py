"""What the results of many scenes come to: means the way papers count, groups, medians."""

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean, median

from mvsplat.evaluation.metric_table import DESCRIPTIONS, MetricDescription, from_json, in_order
from mvsplat.evaluation.scoring import Result

METHODS = {
    "model": "model",
    "zeroed_cost_volume": "model, cost volume zeroed",
    "median_plane": "plane at the median depth",
    "nearest_view": "nearest context view",
    "mean_color": "mean colour",
    "prediction": "before refinement",
}
# Upper ends of the frame distances that are averaged together.
_DISTANCES = (25, 50, 100, 200)


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
            metric: fmean(scene[metric] for scene in of_scenes if metric in scene)
            for metric in in_order(metric for scene in of_scenes for metric in scene)
        }
    return means


def metrics_of(results: Iterable[Result]) -> dict[str, MetricDescription]:
    """The metrics that some scene has, in the order to show them; how they are shown and judged.

    Of those that neither the package nor the results describe, nobody knows which way is better;
    nor of those that some results describe otherwise than others.
    """
    names: dict[str, None] = {}
    found: dict[str, list[MetricDescription]] = {}
    for result in results:
        for scores in result["scores"].values():
            names |= dict.fromkeys(scores["mean"])
        for name, content in result.get("metrics", {}).items():
            described = from_json(name, content)
            if described not in found.setdefault(name, []):
                found[name].append(described)
    own = {name: _agreed(described) for name, described in found.items()}
    known = own | DESCRIPTIONS
    return {name: known.get(name, MetricDescription(name)) for name in in_order(names)}


def _agreed(described: list[MetricDescription]) -> MetricDescription:
    """The first description that knows which way is better, unless another says otherwise."""
    knowing = [each for each in described if each.better is not None]
    first = (knowing or described)[0]
    agree = all(each.better == first.better for each in knowing)
    return first if agree else replace(first, better=None)


def _order(method: str) -> tuple[int, str]:
    known = list(METHODS)
    return (known.index(method) if method in known else len(known), method)


def median_timing(results: list[Result]) -> dict[str, float]:
    """Median times; a process's first batch, which warms up, counts only if there is no other."""
    timings = [r["timing"] for r in results if "timing" in r]
    warm = [timing for timing in timings if not timing["warm_up"]] or timings
    names = [name for name in (warm[0] if warm else {}) if name != "warm_up"]
    return {name: median(timing[name] for timing in warm if name in timing) for name in names}


def groups(results: list[Result]) -> dict[str, dict[str, list[Result]]]:
    """The scenes by tier, or else by overlap, and by the context views' distance in frames.

    What is not known of the scenes, or the same for all, is left out. Groups are ordered from easy
    to hard: much overlap and small distances first.
    """
    kinds = {"tier": _by_tier(results), "frame distance": _by_distance(results)}
    if not kinds["tier"]:
        kinds["overlap"] = _by_overlap(results)
    return {kind: found for kind, found in sorted(kinds.items()) if len(found) > 1}


def _by_tier(results: list[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.get("tier") is not None:
            found.setdefault(str(result["tier"]), []).append(result)

    def overlap(tier: str) -> float:
        known = [r["overlap"] for r in found[tier] if r.get("overlap") is not None]
        return fmean(known) if known else 0.0

    return {tier: found[tier] for tier in sorted(found, key=overlap, reverse=True)}


def _by_overlap(results: list[Result]) -> dict[str, list[Result]]:
    fifths: dict[int, list[Result]] = {}
    for result in results:
        if result.get("overlap") is not None:
            fifths.setdefault(min(4, math.floor(5 * result["overlap"])), []).append(result)
    return {f"{20 * n} to {20 * n + 20} %": fifths[n] for n in sorted(fifths, reverse=True)}


def _by_distance(results: list[Result]) -> dict[str, list[Result]]:
    found: dict[int, list[Result]] = {}
    for result in results:
        distance = max(result["context"]) - min(result["context"])
        found.setdefault(sum(distance > end for end in _DISTANCES), []).append(result)
    starts, ends = (0, *(end + 1 for end in _DISTANCES)), (*map(str, _DISTANCES), "")
    return {
        f"{starts[n]} to {ends[n]}" if ends[n] else f"over {starts[n] - 1}": found[n]
        for n in sorted(found)
    }


def extreme_scenes(results: list[Result], count: int = 3) -> tuple[list[Result], list[Result]]:
    """The scenes with the model's lowest and highest PSNR, most extreme first; no scene in both."""
    ranked = sorted(results, key=_psnr)
    count = min(count, len(ranked) // 2)
    return ranked[:count], ranked[: len(ranked) - count - 1 : -1]


def _psnr(result: Result) -> float:
    """For sorting: pictures that are not finite are the worst."""
    value = result["scores"]["model"]["mean"].get("psnr", math.nan)
    return -math.inf if math.isnan(value) else value
