"""Runs compared scene by scene: differences, and how sure they are.

Two runs are tested on the same scenes, so that what makes a scene hard cancels out in the scene's
difference. A confidence interval of the mean difference is the percentile bootstrap's over scenes
(Efron 1979): the scenes are drawn anew with replacement, many times, each time with both runs'
scores.
"""

import math
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from jaxtyping import Float

from mvsplat.evaluation.means import metrics_of
from mvsplat.evaluation.metric_table import MetricDescription
from mvsplat.evaluation.results_files import Results
from mvsplat.evaluation.scoring import Result

NUMBERS_AT_A_TIME = 1 << 22


@dataclass
class Difference:
    """How a run differs from the first one in a metric.

    Args:
        scenes: The scenes' differences by name: this run's score less the first run's.
        mean: Their mean.
        low: Lower end of the mean's confidence interval; NaN for a single scene.
        high: Its upper end.
        better: Scenes in which this run is better; None if nobody knows which way that is.
        worse: Scenes in which it is worse.
    """

    scenes: dict[str, float]
    mean: float
    low: float
    high: float
    better: int | None
    worse: int | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass
class Comparison:
    """Runs beside each other, on the scenes that they share.

    Args:
        runs: Their results by name, these scenes only, in one order.
        means: The model's mean scores, by run and metric.
        differences: From the first run, by every other run and metric.
        metrics: How each metric is shown, and which way is better.
    """

    runs: dict[str, Results]
    means: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Difference]]
    metrics: dict[str, MetricDescription]

    @property
    def scenes(self) -> list[str]:
        """The scenes' names."""
        return [result["scene"] for result in next(iter(self.runs.values())).scenes]

    def most_different(self, metric: str = "psnr") -> list[str]:
        """The scenes that all have a score of, farthest apart first.

        Raises:
            ValueError: A run has no such scores at all.
        """
        of_runs = [_scores(run.scenes, metric) for run in self.runs.values()]
        for name, scores in zip(self.runs, of_runs, strict=True):
            if not scores:
                known = ", ".join(self.metrics)
                raise ValueError(f"{name} has no {metric} scores to compare; known: {known}")
        spread = {}
        for scene in self.scenes:
            values = [scores.get(scene, math.nan) for scores in of_runs]
            if all(math.isfinite(value) for value in values):
                spread[scene] = max(values) - min(values)
        return sorted(spread, key=lambda scene: (-spread[scene], scene))


def compare(
    runs: dict[str, Results],
    common: bool = False,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs, scene by scene.

    Args:
        runs: Results by name, at least two; the others are compared with the first.
        common: Compare on the scenes that all have, instead of refusing runs of different scenes.
        confidence: Share of cases in which the interval should hold the true mean difference.
        resamples: Number of times that the scenes are drawn anew.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: The runs were tested on different scenes or views, or there is but one.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run given; a comparison needs at least two")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence is {confidence} and resamples {resamples}; expected a share between 0 "
            "and 1, and a positive number"
        )
    shared = _shared_scenes(runs, common)
    runs = {
        name: replace(run, scenes=[r for r in _ordered(run.scenes) if r["scene"] in shared])
        for name, run in runs.items()
    }
    _check_views(runs)
    metrics = metrics_of(_of_model(result) for run in runs.values() for result in run.scenes)
    scores = {
        name: {metric: _scores(run.scenes, metric) for metric in metrics}
        for name, run in runs.items()
    }
    first, *others = runs
    settings = (confidence, resamples, seed)
    return Comparison(
        runs,
        {name: _means(of_run) for name, of_run in scores.items()},
        {
            name: {
                metric: _difference(scores[first][metric], scores[name][metric], shown, *settings)
                for metric, shown in metrics.items()
                if scores[first][metric].keys() & scores[name][metric].keys()
            }
            for name in others
        },
        metrics,
    )


def paired_bootstrap(
    differences: Float[np.ndarray, " n"],
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences; NaN where there are fewer than two.

    >>> import numpy as np
    >>> low, high = paired_bootstrap(np.array([0.5, 0.5, 0.5, 0.5]))
    >>> low, high
    (0.5, 0.5)
    """
    count = len(differences)
    if count < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    means, at_a_time = np.empty(resamples), max(1, NUMBERS_AT_A_TIME // count)
    for start in range(0, resamples, at_a_time):
        stop = min(start + at_a_time, resamples)
        drawn = generator.integers(count, size=(stop - start, count))
        means[start:stop] = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _difference(
    first: dict[str, float],
    other: dict[str, float],
    metric: MetricDescription,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    scenes = {
        scene: value
        for scene in first
        if scene in other and math.isfinite(value := other[scene] - first[scene])
    }
    values = np.array(list(scenes.values()), np.float64)
    low, high = paired_bootstrap(values, confidence, resamples, seed)
    mean = float(values.mean()) if len(values) else math.nan
    if metric.better is None:
        return Difference(scenes, mean, low, high, None, None)
    gains = metric.gain(values)
    return Difference(scenes, mean, low, high, int((gains > 0).sum()), int((gains < 0).sum()))


def _of_model(result: Result) -> Result:
    """The result without other methods, which are not compared."""
    return result | {"scores": {m: s for m, s in result["scores"].items() if m == "model"}}


def _scores(results: list[Result], metric: str) -> dict[str, float]:
    """The model's score in each scene that has one."""
    means = {result["scene"]: result["scores"].get("model", {}).get("mean") for result in results}
    return {scene: mean[metric] for scene, mean in means.items() if mean and metric in mean}


def _means(of_metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    return {metric: fmean(scores.values()) for metric, scores in of_metrics.items() if scores}


def _ordered(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result["scene"])


def _shared_scenes(runs: dict[str, Results], common: bool) -> set[str]:
    scenes = {name: {result["scene"] for result in run.scenes} for name, run in runs.items()}
    shared = set.intersection(*scenes.values())
    if not shared:
        raise ValueError(f"{', '.join(runs)} have no test scene in common")
    first, *others = scenes
    for name in others:
        only = scenes[name] ^ scenes[first]
        if only and not common:
            example = min(only)
            notes = [
                f"{n} is incomplete ({runs[n].missing()}); "
                for n in (first, name)
                if not runs[n].complete
            ]
            has, lacks = (first, name) if example in scenes[first] else (name, first)
            raise ValueError(
                f"{first} was tested on {len(scenes[first])} scenes and {name} on "
                f"{len(scenes[name])}, {len(scenes[first] & scenes[name])} of them the same: "
                f"{example!r} is in {has} but not in {lacks}; {''.join(notes)}"
                f"--common compares the {len(shared)} scenes that all have"
            )
    return shared


def _check_views(runs: dict[str, Results]) -> None:
    (first, reference), *others = runs.items()
    for name, run in others:
        for mine, theirs in zip(reference.scenes, run.scenes, strict=True):
            for kind in ("context", "target"):
                if mine[kind] != theirs[kind]:
                    raise ValueError(
                        f"scene {mine['scene']!r} was tested on different views: {first} has "
                        f"{kind} frames {mine[kind]}, {name} has {theirs[kind]}; test both with "
                        "the same data.test_views"
                    )
            if mine.get("size") != theirs.get("size"):
                raise ValueError(
                    f"photo {mine['scene']!r} was compared at {_size(mine)} in {first} and at "
                    f"{_size(theirs)} in {name}: reconstruct both with the same --refine_size"
                )


def _size(result: Result) -> str:
    return " x ".join(map(str, result.get("size", ()))) or "a size that is not known"
