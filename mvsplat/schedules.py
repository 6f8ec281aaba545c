"""How the learning rate changes over the optimizer steps of a run."""

import math
from abc import ABC, abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mvsplat.configurable import Configurable

# The first learning rate is so much smaller than the peak, and the last so much than the first.
_START, _END = 25.0, 1e4


class Schedule(Configurable, ABC):
    """Builds a scheduler that is stepped once an optimizer step; derive from it to add another."""

    @abstractmethod
    def build(self, optimizer: Optimizer, max_steps: int) -> LRScheduler:
        """The scheduler for a run of ``max_steps`` optimizer steps (-1: the length is open)."""


class OneCycle(Schedule):
    """Cosine rise to the optimizer's learning rate, then a cosine fall to nearly zero.

    The published recipe (Smith and Topin, "Super-convergence", 2018), which stretches the cycle
    ten steps beyond the run so that it never ends early.

    Args:
        warmup_fraction: Share of the steps spent rising.
    """

    def __init__(self, warmup_fraction: float = 0.01):
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), got {warmup_fraction}")
        self.warmup_fraction = warmup_fraction

    def build(self, optimizer: Optimizer, max_steps: int) -> LRScheduler:
        if max_steps < 1:
            raise ValueError(
                f"a OneCycle schedule needs the length of the run: set trainer.max_steps (it is "
                f"{max_steps}), or use the LinearWarmup schedule"
            )
        last = max_steps + 10 - 1
        peak = self.warmup_fraction * (max_steps + 10) - 1

        def factor(step: int) -> float:
            if step <= peak:
                return _cosine(1 / _START, 1.0, step / peak if peak else 1.0)
            return _cosine(1.0, 1 / (_START * _END), min(1.0, (step - peak) / (last - peak)))

        # torch's OneCycleLR is the same curve, but resumed it keeps the length it was saved with.
        return LambdaLR(optimizer, factor)


class WarmupStableDecay(Schedule):
    """Linear rise to the optimizer's learning rate, which stays until it falls at the end.

    It falls by 1 - sqrt. The steps before the fall do not depend on the length of the run, which
    can be continued with more
    ``max_steps``, or brought to its end from any checkpoint ("Scaling laws and
    compute-optimal training beyond fixed training durations", Hägele et al. 2024).

    Args:
        warmup_steps: Optimizer steps until the full learning rate is reached.
        decay_steps: Optimizer steps of the fall to zero, the last ones of the run.
    """

    def __init__(self, warmup_steps: int = 500, decay_steps: int = 2000):
        if warmup_steps < 1 or decay_steps < 1:
            raise ValueError(
                f"warmup_steps is {warmup_steps} and decay_steps {decay_steps}; expected at least 1"
            )
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps

    def build(self, optimizer: Optimizer, max_steps: int) -> LRScheduler:
        if max_steps < 1:
            raise ValueError(
                f"a WarmupStableDecay schedule needs the length of the run: set trainer.max_steps "
                f"(it is {max_steps}), or use the LinearWarmup schedule"
            )

        def factor(step: int) -> float:
            decayed = (step - (max_steps - self.decay_steps)) / self.decay_steps
            fall = 1 - math.sqrt(min(max(decayed, 0.0), 1.0))
            return min(1.0, (step + 1) / self.warmup_steps) * fall

        return LambdaLR(optimizer, factor)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class LinearWarmup(Schedule):
    """Linear rise to the optimizer's learning rate, which then stays.

    Args:
        steps: Optimizer steps until the full learning rate is reached.
    """

    def __init__(self, steps: int = 2000):
        if steps < 1:
            raise ValueError(f"steps must be positive, got {steps}")
        self.steps = steps

    def build(self, optimizer: Optimizer, max_steps: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self.steps))
