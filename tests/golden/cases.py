"""The golden cases: inputs and outputs of the published encoder, computed in float32 on a CPU.

A case holds its inputs whole and of each output a sample of values with their positions. Its
weights are a function of the published parameters' names and shapes (``fill_weights.py``).
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from golden.fill_weights import fill
from torch import Tensor

from mvsplat.types import Views

FOLDER = Path(__file__).parent
# What the reference expects of |difference| / rms: at most, and on average.
MAXIMUM, MEAN = 1e-3, 1e-5
# One value in a thousand may pass the maximum: far depths amplify rounding.
EXCEPTIONS = 1e-3


@lru_cache
def shapes() -> dict[str, dict[str, list[int]]]:
    """Published parameter shapes by case."""
    return json.loads((FOLDER / "shapes.json").read_text())


def published_state(case: str) -> dict[str, Tensor]:
    """The published state dict that a case was computed with."""
    return {
        name: torch.from_numpy(fill(name, tuple(shape), seed=0))
        for name, shape in shapes()[case].items()
    }


class Golden:
    """One case's inputs and outputs."""

    def __init__(self, case: str):
        with np.load(FOLDER / f"{case}.npz") as file:
            self.values = dict(file)

    @property
    def views(self) -> Views:
        names = ("image", "extrinsics", "intrinsics", "near", "far")
        return Views(*(torch.from_numpy(self.values[name]).float() for name in names))

    def __contains__(self, output: str) -> bool:
        return output in self.values

    def differences(self, output: str, value: Tensor) -> np.ndarray:
        """|difference| / rms at the sampled positions; shapes must hold equally many values."""
        assert value.numel() == np.prod(self.values[f"{output}.shape"]), (output, value.shape)
        ours = value.detach().reshape(-1).double().numpy()[self.values[f"{output}.index"]]
        return np.abs(ours - self.values[output]) / self.values[f"{output}.rms"]

    def check(
        self, output: str, value: Tensor, mean: float = MEAN, maximum: float = MAXIMUM
    ) -> None:
        """Assert the agreement that the reference expects."""
        found = self.differences(output, value)
        over = float((found > maximum).mean())
        assert found.mean() < mean and over <= EXCEPTIONS, (
            f"{output}: mean {found.mean():.2e}, maximum {found.max():.2e}, {over:.2%} over"
        )
