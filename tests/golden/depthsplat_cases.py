"""The golden cases of the published DepthSplat: as MVSplat's, in a folder of their own."""

import json
from functools import lru_cache

import torch
from golden.cases import FOLDER, Golden
from golden.fill_weights import fill
from torch import Tensor

# Cases by what they need: the last four take several seconds each, and gigabytes.
TINY = (
    "base_2views",
    "base_lowres_2views",
    "small_2views",
    "small_3views",
    "small_batch2_wide",
    "small_lowres_5views",
)
WITH_GRADIENTS = ("base_lowres_training", "small_gradients")
LARGE = ("base_128", "base_lowres_4views", "full_small", "large_2views")
# What the reference expects of |difference| / rms: at most, and on average; of gradients, ten times
# that.
MAXIMUM, MEAN = 1e-3, 1e-5
# Their weights have this seed in most cases: kept, what one case has made serves the others.
USUAL_SEED = 0


@lru_cache
def state_dicts() -> dict[str, dict[str, list[int]]]:
    """Published parameter shapes by configuration."""
    return json.loads((FOLDER / "depthsplat" / "state_dicts.json").read_text())


@lru_cache(maxsize=None)
def usual_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(fill(name, shape, seed=USUAL_SEED))


def filled(configuration: str, seed: int = USUAL_SEED) -> dict[str, Tensor]:
    """A published state dict of an encoder."""
    shapes = state_dicts()[configuration].items()
    if seed == USUAL_SEED:
        return {name: usual_tensor(name, tuple(shape)) for name, shape in shapes}
    return {name: torch.from_numpy(fill(name, tuple(shape), seed)) for name, shape in shapes}


class DepthSplatGolden(Golden):
    """One case's inputs and outputs, and how the published encoder was configured."""

    def __init__(self, case: str):
        super().__init__(f"depthsplat/{case}")
        self.name = case
        self.config = json.loads(str(self.values["config"]))

    @property
    def state(self) -> dict[str, Tensor]:
        """The published state dict that the case was computed with."""
        return filled(self.config["configuration"], self.config["weight_seed"])

    @property
    def arguments(self) -> dict[str, object]:
        """What differs from the released checkpoints' options."""
        highest = self.config.get("gaussian_scale_max")
        return {} if highest is None else {"scale_range": (1e-10, highest)}

    def outputs(self, prefix: str = "") -> set[str]:
        """Names of the sampled outputs, of those that begin so."""
        ends = [name.removesuffix(".index") for name in self.values if name.endswith(".index")]
        return {name for name in ends if name.startswith(prefix)}

    def agrees(self, name: str, value: Tensor, factor: float = 1.0) -> None:
        """Assert the agreement that the reference expects, of every value."""
        found = self.differences(name, value)
        assert found.max() < factor * MAXIMUM and found.mean() < factor * MEAN, (
            f"{name}: mean {found.mean():.2e}, maximum {found.max():.2e}"
        )
