"""What every encoder is: a network from views to Gaussians."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from mvsplat.configurable import Configurable
from mvsplat.types import Gaussians, Views


class Encoder(Configurable, nn.Module, ABC):
    """Turns context views into Gaussians; derive from it to plug in another network."""

    behaviours: ClassVar[tuple[str, ...]] = ()
    """Switches that change what weights mean but not their shapes: a checkpoint of an encoder whose
    switches differ is refused."""

    of_training: ClassVar[tuple[str, ...]] = ()
    """Arguments that say how to train the encoder, not what it is: with given weights, they follow
    the configuration and all others the weights."""

    @abstractmethod
    def forward(self, views: Views) -> Gaussians:
        """Gaussians of each scene of the batch, from all its views."""
