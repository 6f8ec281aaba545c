"""Which photographs judge, what a scene that shows nothing is worth, and which do not fit."""

import math
from collections.abc import Sequence
from statistics import median

import torch

from mvsplat.evaluation.metrics import HIGHEST_PSNR
from mvsplat.refinement.photographs import Photograph

# From so many photographs on, some judge before they are trained on.
ENOUGH_TO_JUDGE = 6
_EVERY, _MOST = 8, 4
# dB above its mean colour that a photograph must be shown with to be said to be shown at all.
_LEAST_GAIN = 1.0
# A photograph matches nothing where most gain so much more than it does.
_USUAL_GAIN = 5.0


class SceneDoesNotFit(ValueError):
    """Gaussians and photographs do not belong together."""


def split_off(count: int) -> list[int]:
    """Which of so many photographs judge the scene before they are trained on."""
    if count < ENOUGH_TO_JUDGE:
        return []
    candidates = list(range(3, count, _EVERY))
    places = torch.linspace(0, len(candidates) - 1, min(_MOST, len(candidates)))
    return [candidates[place] for place in places.round().long().tolist()]


def decibels(mse: float) -> float:
    """PSNR of a mean squared error."""
    return min(HIGHEST_PSNR, -10 * math.log10(max(mse, 1e-10)))


def flat_psnr(photograph: Photograph) -> float:
    """PSNR of a picture that shows a photograph's mean colour everywhere."""
    pixels = photograph.pixels.flatten(1).float() / 255
    if photograph.mask is not None:
        pixels = pixels[:, photograph.mask.flatten()]
    if pixels.shape[1] == 0:
        return HIGHEST_PSNR
    return decibels(pixels.var(dim=1, correction=0).mean().item())


def check_fit(shown: Sequence[float], flat: Sequence[float], steps: int) -> None:
    """Check that photographs are shown better than by their mean colours.

    Args:
        shown: Their PSNR.
        flat: PSNR of their mean colours.
        steps: Steps made so far, to be told.

    Raises:
        SceneDoesNotFit: They are not.
    """
    psnr, nothing = sum(shown) / len(shown), sum(flat) / len(flat)
    if psnr < nothing + _LEAST_GAIN:
        raise SceneDoesNotFit(
            f"the Gaussians and the photographs do not belong together: after {steps} steps the "
            f"photographs are shown with a PSNR of {psnr:.1f} dB, their mean colours alone have "
            f"{nothing:.1f} dB; expected are photographs of the scene, with cameras in the frame "
            "and unit of the Gaussians"
        )


def misfits(shown: Sequence[float], flat: Sequence[float]) -> list[int]:
    """Which photographs are shown hardly better than by their mean colour, though most are.

    Args:
        shown: Their PSNR; NaN where it is not known.
        flat: PSNR of their mean colours.
    """
    gains = [psnr - nothing for psnr, nothing in zip(shown, flat, strict=True)]
    known = [gain for gain in gains if not math.isnan(gain)]
    if len(known) < 3 or median(known) < _USUAL_GAIN:
        return []
    return [place for place, gain in enumerate(gains) if gain < _LEAST_GAIN]
