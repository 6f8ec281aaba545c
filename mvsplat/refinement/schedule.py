"""What a step of optimisation does, by how much of the work is done: picture size, rates, degree.

Everything is a function of the share of the work that is done, from 0 to 1, so that it is the same
whether steps are counted or a clock is watched.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mvsplat.refinement.parameters import Rates
from mvsplat.refinement.photographs import Photograph

# From what share on pictures have what share of their size; small ones are not made smaller.
_SIZES = ((0.0, 0.25), (0.08, 0.5), (0.3, 1.0))
_SMALLEST = 160
# The means' rate in units of near, and what is left of it at the end.
_MEANS_RATE, _MEANS_LEFT = 4e-3, 0.01
# The other rates, as multiples of those for tens of thousands of steps (Kerbl et al. 2023), and
# what is left of them at the end; they fall after the pause.
_SPEED, _SPEED_LEFT, _STEADY = 6.0, 0.3, 0.6
# Opacities fall by so much of their rate in every step: what pictures do not hold on to vanishes
# (as in Kheradmand et al. 2024, 3DGS as Markov chain Monte Carlo).
FADING = 0.015
# Degree of the harmonics. Those of degree d are shown from d times this share on.
DEGREE, _DEGREE_EVERY = 3, 0.1
# For few photographs.
_CAREFUL_MEANS_RATE, _CAREFUL, _LOOKS_AT_FEW = 5e-4, 0.3, 80
# When Gaussians are split: how often, from and up to which share.
GROWTH_BEGINS, GROWTH_ENDS, GROWTHS = 0.05, 0.6, 20
# A photograph of so many pixels is shown well by one Gaussian for every few of them.
_PIXELS_A_GAUSSIAN = 4.0
_USUAL_PHOTOGRAPHS = 10

# Seconds that a step takes two cores, measured: in all, for a pixel, for a Gaussian.
_COST, _COST_OF_PIXEL, _COST_OF_GAUSSIAN = 1.8e-3, 1.45e-7, 3e-7
_USUAL_SECONDS = 60.0
_FEWEST_STEPS, _MOST_STEPS = 100, 5000


def rates_at(share: float, near: float) -> Rates:
    """Learning rates when ``share`` of the work is done."""
    speed = _SPEED * _SPEED_LEFT ** max(0.0, (share - _STEADY) / (1 - _STEADY))
    usual = Rates(means=_MEANS_RATE * near * _MEANS_LEFT**share)
    return Rates(
        usual.means,
        speed * usual.log_scales,
        speed * usual.quaternions,
        speed * usual.harmonics_base,
        speed * usual.harmonics_rest,
        speed * usual.opacity_logits,
    )


def careful_rates(near: float) -> Rates:
    """Learning rates for scenes that stay close to their start."""
    usual = Rates(means=_CAREFUL_MEANS_RATE * near)
    return replace(usual, opacity_logits=_CAREFUL * usual.opacity_logits)


def steps_of_few(count: int) -> int:
    """How many steps suit so few photographs that none can tell."""
    return _LOOKS_AT_FEW * count


def size_at(share: float, size: int) -> int:
    """The longer side of a picture of ``size`` pixels when ``share`` of the work is done."""
    part = next(part for begin, part in reversed(_SIZES) if share >= begin)
    return min(size, max(_SMALLEST, round(part * size)))


def degree_at(share: float, degree: int) -> int:
    """Highest degree of harmonics, of ``degree``, when ``share`` of the work is done."""
    return min(degree, int(share / _DEGREE_EVERY))


def growths_at(share: float) -> int:
    """How often Gaussians have been split when ``share`` of the work is done."""
    part = (min(share, GROWTH_ENDS) - GROWTH_BEGINS) / (GROWTH_ENDS - GROWTH_BEGINS)
    return max(0, int(part * GROWTHS + 1e-9))


@dataclass(frozen=True)
class Budget:
    """How many Gaussians there may be when.

    Args:
        first: At the start.
        last: In the end.
    """

    first: int
    last: int

    @classmethod
    def of(cls, first: int, photographs: Sequence[Photograph], most: int) -> "Budget":
        """What suits photographs: one for some pixels of a view, more for a scene of many views."""
        pixels = mean_pixels(photographs)
        views = math.sqrt(max(1.0, len(photographs) / _USUAL_PHOTOGRAPHS))
        return cls(first, max(first, min(most, round(pixels / _PIXELS_A_GAUSSIAN * views))))

    def at(self, share: float) -> int:
        """How many there may be when ``share`` of the work is done."""
        part = (share - GROWTH_BEGINS) / (GROWTH_ENDS - GROWTH_BEGINS)
        return round(self.first * (self.last / self.first) ** min(1.0, max(0.0, part)))


def mean_pixels(photographs: Sequence[Photograph]) -> float:
    """How many pixels a photograph has on average."""
    return sum(math.prod(photo.shape) for photo in photographs) / len(photographs)


def usual_steps(photographs: Sequence[Photograph], budget: Budget) -> int:
    """So many steps as take about a minute on two cores; nothing but sizes decides."""
    parts = [
        (end - begin, part) for (begin, part), (end, _) in zip(_SIZES, [*_SIZES[1:], (1.0, 1)])
    ]
    area = sum(share * part**2 for share, part in parts)
    gaussians = 0.3 * budget.first + 0.7 * budget.last
    seconds = (
        _COST + _COST_OF_PIXEL * mean_pixels(photographs) * area + _COST_OF_GAUSSIAN * gaussians
    )
    return min(_MOST_STEPS, max(_FEWEST_STEPS, round(_USUAL_SECONDS / seconds)))
