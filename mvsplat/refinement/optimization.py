"""Optimising Gaussians on photographs: which photograph when, at what rates, and what is kept."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.evaluation.metrics import HIGHEST_PSNR
from mvsplat.refinement.engine import Engine, masked_mse
from mvsplat.refinement.engines import engine_for
from mvsplat.refinement.parameters import Parameters, Rates
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

# Steps by themselves, where neither their number nor a time is given.
_USUAL_STEPS = 800
# From so many photographs on, some tell when to stop.
_ENOUGH_TO_VALIDATE = 8
_VALIDATE_EVERY, _MOST_VALIDATED = 8, 4
_CHECKS = 20
# The means' rate in units of near, and what is left of it at the end.
_MEANS_RATE, _MEANS_LEFT = 5e-4, 0.01


@dataclass(frozen=True)
class Settings:
    """How to optimise.

    Args:
        steps: How many steps; None takes as many as ``seconds`` allow, or a number that suits the
            photographs.
        seconds: For how long, where ``steps`` is None.
        max_gaussians: At most so many Gaussians; those of the start are never fewer for it.
        poses: Correct the photographs' cameras.
        exposures: Estimate each photograph's exposure.
        seed: Of everything random.
    """

    steps: int | None = None
    seconds: float | None = None
    max_gaussians: int = 200_000
    poses: bool = True
    exposures: bool = True
    seed: int = 0


class CurvePoint(NamedTuple):
    """How good the scene was after a step: PSNR in dB; NaN without validation photographs."""

    step: int
    seconds: float
    training_psnr: float
    validation_psnr: float


class Progress(NamedTuple):
    """How far it is: steps done of how many, seconds so far and still to go, PSNR of late."""

    step: int
    steps: int
    seconds: float
    seconds_left: float
    psnr: float
    gaussians: int


Report = Callable[[Progress], None]


@dataclass
class Refined:
    """What came of it.

    Args:
        gaussians: The scene at its best step, on the CPU.
        extrinsics: Each photograph's camera-to-world matrix, corrected.
        exposures: Each photograph's gain and offset a channel.
        curve: How good it was on the way.
        steps: How many steps were made.
        best_step: After which the scene was best.
        kept: Whether the result is better than the start.
        interrupted: Whether Ctrl-C ended it.
        notes: What else a user should know, in sentences.
    """

    gaussians: Gaussians
    extrinsics: Float[Tensor, "n 4 4"]
    exposures: Float[Tensor, "n 3 2"]
    curve: list[CurvePoint]
    steps: int
    best_step: int
    kept: bool
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)


def optimise(
    gaussians: Gaussians,
    photographs: Sequence[Photograph],
    near: float,
    settings: Settings | None = None,
    report: Report | None = None,
    engine: Engine | None = None,
) -> Refined:
    """Optimise one scene's Gaussians on photographs of it.

    Args:
        gaussians: Where to start from.
        photographs: To compare with; of eight or more, some only tell which step is best.
        near: Nearest depth of the scene, the unit of steps and of the near plane.
        settings: How; None takes the defaults.
        report: Told every few steps how far it is.
        engine: What makes the steps; None takes one for the Gaussians' device.

    Raises:
        ValueError: There is nothing to optimise, or nothing to compare with.
    """
    if not photographs:
        raise ValueError("there is no photograph to compare with")
    engine = engine or engine_for(gaussians.means.device)
    run = _Run(gaussians, list(photographs), near, settings or Settings(), engine)
    interrupted = False
    try:
        run.all_steps(report)
    except KeyboardInterrupt:
        interrupted = True
    return run.result(interrupted)


def split_off(count: int) -> list[int]:
    """Which of so many photographs tell the best step, instead of being trained on."""
    if count < _ENOUGH_TO_VALIDATE:
        return []
    candidates = list(range(3, count, _VALIDATE_EVERY))
    places = torch.linspace(0, len(candidates) - 1, min(_MOST_VALIDATED, len(candidates)))
    return [candidates[place] for place in places.round().long().tolist()]


class _Run:
    def __init__(
        self,
        gaussians: Gaussians,
        photographs: list[Photograph],
        near: float,
        settings: Settings,
        engine: Engine,
    ) -> None:
        self.start, self.photographs, self.near = gaussians, photographs, near
        self.settings, self.engine = settings, engine
        self.parameters = Parameters.from_gaussians(gaussians)
        self.validated = split_off(len(photographs))
        self.trained = [i for i in range(len(photographs)) if i not in self.validated]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.order: list[int] = []
        self.curve: list[CurvePoint] = []
        self.step = self.best_step = 0
        self.best: Parameters | None = None
        self.psnr = math.nan
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        if self.settings.steps is None and self.settings.seconds is not None:
            return min(1.0, self.seconds / self.settings.seconds)
        return self.step / max(1, self.settings.steps or _USUAL_STEPS)

    def all_steps(self, report: Report | None) -> None:
        checked = 0
        self.check()
        while (share := self.share()) < 1 or (self.settings.steps is None and self.step == 0):
            self.one_step(share)
            if int(self.share() * _CHECKS) > checked or self.share() >= 1:
                checked = int(self.share() * _CHECKS)
                self.check()
            if report is not None:
                report(self.progress())

    def one_step(self, share: float) -> None:
        if not self.order:
            self.order = torch.randperm(len(self.trained), generator=self.generator).tolist()
        photograph = self.photographs[self.trained[self.order.pop()]]
        rates = Rates(means=_MEANS_RATE * self.near * _MEANS_LEFT**share)
        degree = self.parameters.degree
        found = self.engine.step(self.parameters, photograph, rates, self.near, degree)
        self.step += 1
        latest = _decibels(found.mse)
        self.psnr = latest if math.isnan(self.psnr) else 0.9 * self.psnr + 0.1 * latest

    def check(self) -> None:
        """Measure how good the scene is, and remember the best."""
        quality = self._quality(self.validated)
        self.curve.append(CurvePoint(self.step, self.seconds, self.psnr, quality))
        if not self.validated or quality >= max(point.validation_psnr for point in self.curve):
            self.best, self.best_step = self.parameters.copy(), self.step

    def _quality(self, indices: Sequence[int]) -> float:
        found = [self._psnr(self.photographs[index]) for index in indices]
        return sum(found) / len(found) if found else math.nan

    def _psnr(self, photograph: Photograph) -> float:
        picture = self.engine.render(
            self.parameters, photograph, self.near, self.parameters.degree
        ).cpu()
        return _decibels(masked_mse(picture, photograph.pixels / 255, photograph.mask))

    def progress(self) -> Progress:
        share, seconds = self.share(), self.seconds
        return Progress(
            self.step,
            max(self.step, round(self.step / share)),
            seconds,
            seconds * (1 - share) / share,
            self.psnr,
            len(self.parameters),
        )

    def result(self, interrupted: bool) -> Refined:
        kept = self.best_step > 0
        chosen = self.best.to_gaussians() if kept and self.best is not None else self.start
        return Refined(
            gaussians=replace(chosen, estimate=None).to("cpu"),
            extrinsics=torch.stack([p.extrinsics for p in self.photographs]),
            exposures=torch.tensor([[1.0, 0.0]] * 3).repeat(len(self.photographs), 1, 1),
            curve=self.curve,
            steps=self.step,
            best_step=self.best_step,
            kept=kept,
            interrupted=interrupted,
        )


def _decibels(mse: float) -> float:
    return min(HIGHEST_PSNR, -10 * math.log10(max(mse, 1e-10)))
