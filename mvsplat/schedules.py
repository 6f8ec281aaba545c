"""How the learning rate changes over the optimizer steps of a run."""

from abc import ABC, abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mvsplat.configurable import Configurable


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
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=max_steps + 10,
            pct_start=self.warmup_fraction,
            cycle_momentum=False,
            anneal_strategy="cos",
        )


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
