"""Which frames of a scene become context and which become targets."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.configurable import Configurable
from mvsplat.data.scenes import Scene


class ViewSampler(Configurable, ABC):
    """Chooses views; derive from it to train or evaluate on another choice."""

    @abstractmethod
    def sample(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        """Frame numbers of the context and of the target views.

        Args:
            scene: The scene; its cameras may be looked at, its pictures should not.
            step: The optimizer step the sample will be used in (0 in evaluation).
            generator: The only source of randomness allowed, so that a run can be repeated.

        Raises:
            UnsuitableScene: The scene has no such views; it is skipped and counted by the reason.
        """


class UnsuitableScene(Exception):
    """A scene that cannot be used here; the message is the reason it is counted under."""
