"""The shapes of the pictures that a model trains on, which may differ from step to step."""

import re
from collections.abc import Mapping

import torch

from mvsplat.data.transforms import Shape


class StepShapes:
    """Draws a shape for all pictures of an optimizer step.

    Args:
        weights: From a shape, height x width, to how often it is drawn, relative to the others.

    Raises:
        ValueError: A shape or a weight makes no sense.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.shapes: list[Shape] = []
        for name, weight in weights.items():
            match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name)
            if match is None:
                raise ValueError(
                    f"train_shapes has {name!r}; expected a height and a width, such as 64x96"
                )
            if not 0 < weight < float("inf"):
                raise ValueError(f"train_shapes draws {name} {weight} times; expected more than 0")
            self.shapes.append((int(match[1]), int(match[2])))
        self.weights = torch.tensor([float(weight) for weight in weights.values()])

    def draw(self, generator: torch.Generator) -> Shape:
        """Height and width; the generator is the only source of randomness."""
        return self.shapes[int(torch.multinomial(self.weights, 1, generator=generator))]
