"""Which of several sets of Gaussians to start from: the one that is best after a short race."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mvsplat.refinement.engine import Engine, TorchEngine, masked_mse
from mvsplat.refinement.optimization import split_off
from mvsplat.refinement.parameters import Parameters, Rates
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

_STEPS = 60
_SIDE = 96  # pixels of the photographs' longer side
_MEANS_RATE = 5e-4  # in units of near
# With fewer photographs than this, one less to train on tells more of the photographs left.
_ENOUGH_TO_RACE = 5

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


def choose_start(
    candidates: Mapping[str, Gaussians],
    photographs: Sequence[Photograph],
    near: float,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Progress = lambda done, total: None,
) -> ChosenStart:
    """The candidate that is best after a few steps of optimisation on small pictures.

    Some of the photographs are not trained on, but tell which is best. With fewer than five
    photographs none can be spared, and the first candidate is taken.

    Args:
        candidates: Sets of Gaussians by name; the first one wins if nothing is better. Those
            without any Gaussian do not count.
        photographs: To train on and to compare with.
        near: Nearest depth of the scene, the unit of steps.
        seed: Of the order of the photographs.
        engine: What makes the steps; None takes one for any device.
        progress: Is told how far it is.

    Raises:
        ValueError: No candidate has any Gaussian.
    """
    usable = {name: scene for name, scene in candidates.items() if scene.means.shape[1]}
    if not usable:
        raise ValueError("there is nothing to start from: neither Gaussians nor points")
    if len(usable) == 1 or len(photographs) < _ENOUGH_TO_RACE:
        name = next(iter(usable))
        return ChosenStart(name, usable[name], {})
    small = [photograph.fitted(_SIDE) for photograph in photographs]
    validated = split_off(len(small)) or [len(small) // 2]
    race = _Race(small, validated, near, seed, engine or TorchEngine())
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
        rates = Rates(means=_MEANS_RATE * self.near)
        for step, photograph in enumerate(self.course, 1):
            self.engine.step(parameters, photograph, rates, self.near, parameters.degree)
            progress(step)
        errors = []
        for photograph in self.validated:
            picture = self.engine.render(parameters, photograph, self.near, parameters.degree)
            errors.append(masked_mse(picture.cpu(), photograph.pixels / 255, photograph.mask))
        return sum(-10 * math.log10(max(error, 1e-10)) for error in errors) / len(errors)
