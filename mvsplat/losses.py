"""What training minimises: a weighted sum of small modules, each named in YAML."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.configurable import Configurable
from mvsplat.types import Batch, Gaussians, Rendering


class Loss(Configurable, nn.Module, ABC):
    """One term of the objective; derive from it to add another.

    Args:
        weight: Factor of this term in the sum.
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def prepare(self) -> None:
        """Load what the loss needs; called once, when ``fit`` starts, and by nothing else."""

    @abstractmethod
    def forward(
        self, rendering: Rendering, batch: Batch, gaussians: Gaussians
    ) -> Float[Tensor, ""]:
        """The unweighted value; ``rendering`` shows ``batch.target``."""
