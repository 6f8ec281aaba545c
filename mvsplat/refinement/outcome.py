"""What optimising is told, what it tells on the way, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from mvsplat.types import Gaussians


@dataclass(frozen=True)
class Settings:
    """How to optimise.

    Args:
        steps: How many steps; None takes as many as ``seconds`` allow, or a number that suits the
            photographs: about a minute's on two cores.
        seconds: For how long, where ``steps`` is None.
        max_gaussians: Grow to so many Gaussians at most; those of the start are never fewer for it.
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

    def __post_init__(self) -> None:
        for name in ("steps", "seconds", "max_gaussians"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: {value} found, expected more than 0")


class CurvePoint(NamedTuple):
    """How good the scene was after a step: PSNR in dB.

    ``validation_psnr`` is of photographs that were not trained on by then; NaN without such.
    """

    step: int
    seconds: float
    training_psnr: float
    validation_psnr: float


class Progress(NamedTuple):
    """How far it is: steps done of how many, seconds so far and still to go, PSNR of late.

    ``scene`` makes a copy, on the CPU, of the scene as it is now; it is None until it is known that
    Gaussians and photographs belong together.
    """

    step: int
    steps: int
    seconds: float
    seconds_left: float
    psnr: float
    gaussians: int
    scene: Callable[[], Gaussians] | None = None


Report = Callable[[Progress], None]


@dataclass
class Refined:
    """What came of it.

    Args:
        gaussians: The scene at its best step, on the CPU; the start where it is not ``kept``.
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
