"""What to start from: points where photographs tell depth, the network's Gaussians elsewhere.

Which of these is best, or both together, is decided by a short race.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.refinement.aligning import aligned
from mvsplat.refinement.engine import Engine, masked_mse
from mvsplat.refinement.engines import engine_for
from mvsplat.refinement.judging import ENOUGH_TO_JUDGE, decibels, split_off
from mvsplat.refinement.merging import DepthView, Merged, joined, those, without
from mvsplat.refinement.parameters import Parameters
from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.schedule import rates_at
from mvsplat.refinement.stereo import Stereo, sweep_photographs
from mvsplat.types import Gaussians

NETWORK = "the network's prediction"
POINTS = "points that the photographs agree on"
BOTH = f"{POINTS}, and the network's Gaussians between them"
"""The candidates' names."""

MOST = 60_000
"""Gaussians to start from, and half as many more between points."""
_SPARSE = 0.25  # share that is left of Gaussians between points, which has little detail
_PARTLY = 0.2  # opacity that is left to Gaussians between points
_NEAR_POINTS = 0.1  # share of the depth within which a Gaussian is where photographs have points
_STEPS = 60
_SIDE = 96  # pixels of the photographs' longer side
_EARLY = 0.1  # share of a whole optimisation at which the race is
_OPACITY, _SIZE = 0.3, 0.7  # of Gaussians at points that lie as close as pixels

Progress = Callable[[int, int], None]
"""Is told how many steps of all candidates are done, and of how many."""


@dataclass(frozen=True)
class ChosenStart:
    """What to start from.

    Args:
        name: The candidate's name.
        gaussians: Its Gaussians.
        psnr: Of every candidate the PSNR in dB, after the race, on photographs that it was not
            trained on; empty if there was no race.
    """

    name: str
    gaussians: Gaussians
    psnr: dict[str, float]


def find_start(
    photographs: Sequence[Photograph],
    near: float,
    far: float,
    predicted: Merged | None = None,
    views: Sequence[DepthView] | None = None,
    points: Float[Tensor, "p 3"] | None = None,
    most: int = MOST,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Progress = lambda done, total: None,
) -> ChosenStart:
    """The best start that photographs, a network's Gaussians and sparse points give.

    Depth is measured in the photographs by :mod:`mvsplat.refinement.stereo`. With fewer than six
    photographs the network's Gaussians are taken as they are, if there are any.

    Args:
        photographs: To train on; nothing else is looked at.
        near: Nearest depth of the scene, the unit of steps.
        far: Farthest depth.
        predicted: A network's Gaussians, of these photographs in this order, widened for their
            size.
        views: The depth that it predicted for each photograph, which is then corrected.
        points: Sparse points that came with the data.
        most: Gaussians of a start; what lies between points may be half as many more.
        seed: Of everything random.
        engine: What makes the steps; None takes the fastest.
        progress: Is told how far it is, and may raise what ends the work.

    Raises:
        ValueError: There is nothing to start from.
    """
    from mvsplat.refinement.points import gaussians_from_points  # numba takes a second

    device = torch.device("cpu") if predicted is None else predicted.gaussians.means.device
    count = len(photographs)
    if count < ENOUGH_TO_JUDGE and predicted is not None:
        return ChosenStart(NETWORK, predicted.gaussians, {})
    stereo = sweep_photographs(
        photographs, near, far, points, lambda done, _: progress(done, count + 3 * _STEPS)
    )
    found = stereo.points()
    if points is not None:
        found = torch.cat([found, points.to(found)])
    found = thinned_points(found, most, seed)
    at_points = gaussians_from_points(found, photographs, opacity=_OPACITY, size=_SIZE)
    candidates = {POINTS: at_points}
    if predicted is not None:
        # What the network says of the judges would show just them well, and prove nothing.
        predicted = replace(predicted, gaussians=predicted.gaussians.to("cpu"))
        predicted = without(predicted, split_off(count))
        network = thinned(predicted.gaussians, most, seed)
        if views is not None:
            predicted = aligned(predicted, views, found)
        between = those(predicted.gaussians, ~needless(predicted, stereo))
        fewer = math.ceil(_SPARSE * between.means.shape[1])
        between = thinned(between, min(fewer, most // 2), seed)
        between = replace(between, opacities=_PARTLY * between.opacities)
        candidates = {BOTH: joined([at_points, between]), POINTS: at_points, NETWORK: network}
    return choose_start(
        {name: scene.to(device) for name, scene in candidates.items()},
        photographs,
        near,
        seed,
        engine,
        lambda done, total: progress(count + done, count + total),
    )


def needless(predicted: Merged, stereo: Stereo) -> Bool[Tensor, " g"]:
    """Which Gaussians lie where depth was measured: in their own photograph, or on what others
    show; or before it, where others see past them.
    """
    means = predicted.gaussians.means[0]
    result = torch.zeros(len(means), dtype=torch.bool)
    for number, (view, others) in enumerate(zip(stereo.views, stereo.compared, strict=True)):
        mine = (predicted.photograph == number).nonzero()[:, 0]
        places = means[mine]
        known = view.look(places).seen
        for other in others.tolist():
            look = stereo.views[other].look(places)
            known |= look.agrees_within(_NEAR_POINTS) | look.past
        result[mine] = known
    return result


def thinned(gaussians: Gaussians, most: int, seed: int = 0) -> Gaussians:
    """At most so many of the Gaussians, drawn at random, and larger the fewer there are left."""
    count = gaussians.means.shape[1]
    if count <= most:
        return gaussians
    chosen = _drawn(count, most, seed)
    left = those(gaussians, chosen)
    return replace(left, scales=left.scales * (count / most) ** 0.5)


def thinned_points(points: Float[Tensor, "p 3"], most: int, seed: int = 0) -> Float[Tensor, "q 3"]:
    """At most so many of the points, drawn at random."""
    return points if len(points) <= most else points[_drawn(len(points), most, seed)]


def _drawn(count: int, most: int, seed: int) -> Bool[Tensor, " count"]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(count, dtype=torch.bool).index_fill_(0, order[:most], True)


def choose_start(
    candidates: Mapping[str, Gaussians],
    photographs: Sequence[Photograph],
    near: float,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Progress = lambda done, total: None,
) -> ChosenStart:
    """The candidate that is best after a few steps of optimisation on small pictures.

    Some of the photographs are not trained on, but tell which is best. With fewer than six
    photographs none can be spared, and the first candidate is taken.

    Args:
        candidates: Sets of Gaussians by name; the first one wins if nothing is better. Those
            without any Gaussian do not count.
        photographs: To train on and to compare with.
        near: Nearest depth of the scene, the unit of steps.
        seed: Of the order of the photographs.
        engine: What makes the steps; None takes the fastest.
        progress: Is told how far it is.

    Raises:
        ValueError: No candidate has any Gaussian.
    """
    usable = {name: scene for name, scene in candidates.items() if scene.means.shape[1]}
    if not usable:
        raise ValueError("there is nothing to start from: neither Gaussians nor points")
    if len(usable) == 1 or len(photographs) < ENOUGH_TO_JUDGE:
        name = next(iter(usable))
        return ChosenStart(name, usable[name], {})
    small = [photograph.fitted(_SIDE) for photograph in photographs]
    validated = split_off(len(small))
    engine = engine or engine_for(next(iter(usable.values())).means.device)
    race = _Race(small, validated, near, seed, engine)
    psnr: dict[str, float] = {}
    for number, (name, scene) in enumerate(usable.items()):
        base = number * _STEPS
        psnr[name] = race.run(scene, lambda step: progress(base + step, len(usable) * _STEPS))
    best = max(psnr, key=lambda name: psnr[name])
    return ChosenStart(best, usable[best], psnr)


class _Race:
    """The same course for every candidate."""

    def __init__(
        self,
        photographs: Sequence[Photograph],
        validated: Sequence[int],
        near: float,
        seed: int,
        engine: Engine,
    ) -> None:
        self.near, self.engine = near, engine
        self.validated = [photographs[number] for number in validated]
        trained = [p for number, p in enumerate(photographs) if number not in validated]
        generator = torch.Generator().manual_seed(seed)
        rounds = [
            torch.randperm(len(trained), generator=generator)
            for _ in range(math.ceil(_STEPS / len(trained)))
        ]
        self.course = [trained[number] for number in torch.cat(rounds)[:_STEPS].tolist()]

    def run(self, scene: Gaussians, progress: Callable[[int], None]) -> float:
        """PSNR in dB at the end."""
        parameters = Parameters.from_gaussians(scene)
        rates = rates_at(_EARLY, self.near)
        for step, photograph in enumerate(self.course, 1):
            self.engine.step(parameters, photograph, rates, self.near, parameters.degree)
            progress(step)
        shown = []
        for photograph in self.validated:
            picture = self.engine.render(parameters, photograph, self.near, parameters.degree)
            error = masked_mse(picture.cpu(), photograph.pixels / 255, photograph.mask)
            shown.append(decibels(error))
        return fmean(shown)
