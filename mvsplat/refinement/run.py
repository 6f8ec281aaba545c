"""One optimisation from its first step to its last: what is done when, and what is kept of it."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch

from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.refinement import schedule
from mvsplat.refinement.closeness import Anchor, Closeness, anchor_of
from mvsplat.refinement.corrections import Corrections
from mvsplat.refinement.engine import Engine, masked_mse
from mvsplat.refinement.growth import Growth
from mvsplat.refinement.judging import (
    ENOUGH_TO_JUDGE,
    check_fit,
    decibels,
    flat_psnr,
    misfits,
    split_off,
)
from mvsplat.refinement.memory import check_memory
from mvsplat.refinement.outcome import CurvePoint, Progress, Refined, Report, Settings
from mvsplat.refinement.parameters import Parameters
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

# How often the scene is judged.
_CHECKS = 20
# When the photographs that judged are trained on, too; and what the scene may be worse by then than
# at its best, in dB.
_JOINED, _MAY_FALL = 0.5, 0.3
# When photographs that match nothing are known, and left out.
_LEFT_OUT_AT = 0.3
# Steps, and looks at every photograph, after which a scene must show something.
_FIRST_STEPS, _FIRST_LOOKS = 30, 3

# Of a harmonic that makes a Gaussian's colour 1; the alpha from which on something is shown.
_WHITE, _SHOWS = 0.5 / normalization(0, 0), 0.1


class Run:
    """The state of an optimisation; see :func:`~mvsplat.refinement.optimization.optimise`."""

    def __init__(
        self,
        gaussians: Gaussians,
        photographs: list[Photograph],
        near: float,
        settings: Settings,
        engine: Engine,
        anchor: Anchor | None = None,
    ) -> None:
        self.start, self.photographs, self.near = gaussians, photographs, near
        self.settings, self.engine = settings, engine
        self.parameters = Parameters.from_gaussians(gaussians)
        self.notes: list[str] = []
        dropped = gaussians.means.shape[1] - len(self.parameters)
        if dropped:
            self.notes.append(f"{dropped} Gaussians with NaN or infinite values were left out")
        self.is_close = len(photographs) < ENOUGH_TO_JUDGE
        if not self.is_close:
            self.parameters.raise_degree(schedule.DEGREE)
        self.judges = split_off(len(photographs))
        self.trained = [i for i in range(len(photographs)) if i not in self.judges]
        self.corrections = Corrections(photographs, near, settings.poses, settings.exposures)
        most = len(self.parameters) if self.is_close else settings.max_gaussians
        self.budget = schedule.Budget.of(len(self.parameters), photographs, most)
        check_memory(self.budget.last, self.parameters, photographs)
        self.growth = Growth(self.parameters)
        self.closeness = None
        if self.is_close:
            anchor = anchor or anchor_of(gaussians, _centers(photographs))
            self.closeness = Closeness(self.parameters, None if dropped else anchor)
            self.photographs = [self.covered(photograph) for photograph in photographs]
        self.steps = self.most_steps()
        self.pyramids: dict[tuple[int, int], Photograph] = {}
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.order: list[int] = []
        self.shown = [math.nan] * len(photographs)  # PSNR when last trained on
        self.flat = [flat_psnr(photograph) for photograph in self.photographs]
        self.curve: list[CurvePoint] = []
        self.grown = self.step = self.best_step = 0
        self.best: Parameters | None = None
        self.has_joined = self.has_been_checked = False
        self.begun = time.monotonic()

    def covered(self, photograph: Photograph) -> Photograph:
        """The photograph where the start shows anything: beyond, nothing will be added."""
        white = self.parameters.copy()
        white.harmonics.zero_()[..., 0] = _WHITE
        opaque = self.engine.render(white, photograph, self.near, 0)[0].cpu() >= _SHOWS
        if opaque.all():
            return photograph
        mask = opaque if photograph.mask is None else opaque & photograph.mask
        return replace(photograph, mask=mask)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def most_steps(self) -> int | None:
        """How many steps there will be at most; None where only a clock tells."""
        if self.settings.steps is not None:
            return self.settings.steps
        if self.is_close:  # more would only learn these photographs by heart
            return schedule.steps_of_few(len(self.photographs))
        if self.settings.seconds is not None:
            return None
        return schedule.usual_steps(self.photographs, self.budget)

    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        limits = [0.0 if self.steps is None else self.step / self.steps]
        if self.settings.steps is None and self.settings.seconds is not None and self.step:
            limits.append(self.seconds / self.settings.seconds)
        return min(1.0, max(limits))

    def all_steps(self, report: Report | None) -> None:
        """Make all steps, and judge the scene now and then."""
        checked = 0
        self.check()
        while (share := self.share()) < 1:
            self.one_step(share)
            share = self.share()
            if share >= 1 or int(share * _CHECKS) > checked:
                checked = int(share * _CHECKS)
                self.check()
            self.decide(share)
            if report is not None:
                report(self.progress(share))

    def one_step(self, share: float) -> None:
        index = self.next_photograph()
        photograph = self.corrections.corrected(self.at_size(index, share), index)
        degree = schedule.degree_at(share, self.parameters.degree)
        rates = schedule.rates_at(share, self.near)
        if self.closeness is not None:
            degree, rates = self.parameters.degree, schedule.careful_rates(self.near)
        found = self.engine.step(
            self.parameters, photograph, rates, self.near, degree, self.corrections.exposure(index)
        )
        self.step += 1
        self.shown[index] = decibels(found.mse)
        self.corrections.update(index, found, share)
        if self.closeness is not None:
            self.closeness.pull(self.parameters, found.seen)
            return
        self.parameters.opacity_logits -= schedule.FADING * rates.opacity_logits * found.seen
        self.growth.note(found)
        growths = schedule.growths_at(share)
        if growths > self.grown:
            self.grown = growths
            self.growth.grow(self.parameters, self.budget.at(share))

    def next_photograph(self) -> int:
        """The photographs one after the other, in another order every time."""
        if not self.order:
            self.corrections.center(self.trained)
            places = torch.randperm(len(self.trained), generator=self.generator).tolist()
            self.order = [self.trained[place] for place in places]
        return self.order.pop()

    def at_size(self, index: int, share: float) -> Photograph:
        photograph = self.photographs[index]
        size = max(photograph.shape)
        if self.closeness is None:
            size = schedule.size_at(share, size)
        if (index, size) not in self.pyramids:
            self.pyramids[index, size] = photograph.fitted(size)
        return self.pyramids[index, size]

    def check(self) -> None:
        """Measure how good the scene is, and remember the best."""
        judged = [] if self.has_joined else self.judges
        quality = fmean([self.psnr(index) for index in judged]) if judged else math.nan
        trained = [psnr for psnr in self.shown if not math.isnan(psnr)]
        self.curve.append(
            CurvePoint(self.step, self.seconds, fmean(trained or [math.nan]), quality)
        )
        if judged and quality >= max(_known(self.curve)):
            self.best, self.best_step = self.parameters.copy(), self.step

    def psnr(self, index: int) -> float:
        """How well the scene shows a photograph, whose camera is not corrected."""
        photograph, degree = self.photographs[index], self.parameters.degree
        picture = self.engine.render(self.parameters, photograph, self.near, degree).cpu()
        return decibels(masked_mse(picture, photograph.pixels / 255, photograph.mask))

    def decide(self, share: float) -> None:
        """What is decided once, on the way."""
        first = max(_FIRST_STEPS, _FIRST_LOOKS * len(self.trained))
        if self.step == first:
            self.check_fit()
            self.has_been_checked = True
        if share >= _LEFT_OUT_AT and self.step > first and not self.is_close:
            self.leave_out_misfits()
        if share >= _JOINED and not self.has_joined:
            self.join()

    def check_fit(self) -> None:
        judged = self.judges or self.trained
        shown = [self.psnr(index) for index in judged]
        check_fit(shown, [self.flat[index] for index in judged], self.step)

    def leave_out_misfits(self) -> None:
        suspects = [index for index in misfits(self.shown, self.flat) if index in self.trained]
        for index in suspects:  # last trained on when little of the scene was right, perhaps
            self.shown[index] = max(self.shown[index], self.psnr(index))
        for index in misfits(self.shown, self.flat):
            if index in suspects and len(self.trained) > 2:
                self.trained.remove(index)
                self.order = [other for other in self.order if other != index]
                self.notes.append(
                    f"{self.photographs[index].name} matches nothing of the scene, and was left "
                    f"out: it is shown with {self.shown[index]:.1f} dB, its mean colour alone has "
                    f"{self.flat[index]:.1f} dB; its camera may be wrong"
                )
                self.shown[index] = math.nan

    def join(self) -> None:
        """Train on the photographs that judged, too, unless the scene is past its best for them."""
        known = _known(self.curve)
        if not known or known[-1] < max(known) - _MAY_FALL or self.best_step == 0:
            return
        self.has_joined = True
        self.trained = sorted({*self.trained, *self.judges})
        self.best = None

    def progress(self, share: float) -> Progress:
        steps = max(self.step, round(self.step / max(share, 1e-9)))
        left = self.seconds * (1 - share) / max(share, 1e-9)
        trained = [psnr for psnr in self.shown if not math.isnan(psnr)]
        psnr, count = fmean(trained), len(self.parameters)
        scene = self.scene if self.has_been_checked else None
        return Progress(self.step, steps, self.seconds, left, psnr, count, scene)

    def scene(self) -> Gaussians:
        """The scene as it is now, copied to the CPU."""
        return self.parameters.to_gaussians().to("cpu")

    def result(self) -> Refined:
        """The scene at its best; without judges, or after they joined, as it is now."""
        self.corrections.center(self.trained)
        if self.has_joined or not self.judges:
            self.best, self.best_step = self.parameters, self.step
        kept = self.best_step > 0
        chosen = self.best.to_gaussians() if kept and self.best is not None else self.start
        return Refined(
            gaussians=replace(chosen, estimate=None).to("cpu"),
            extrinsics=self.corrections.extrinsics(),
            exposures=self.corrections.exposures(),
            curve=self.curve,
            steps=self.step,
            best_step=self.best_step,
            kept=kept,
            notes=self.notes,
        )


def _known(curve: Sequence[CurvePoint]) -> list[float]:
    return [p.validation_psnr for p in curve if not math.isnan(p.validation_psnr)]


def _centers(photographs: Sequence[Photograph]) -> torch.Tensor:
    return torch.stack([photograph.extrinsics[:3, 3] for photograph in photographs])
