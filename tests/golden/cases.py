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
CASES = (
    "full_2views",
    "tiny_2views",
    "tiny_3views",
    "tiny_batch2_wide",
    "tiny_epipolar",
    "tiny_gpp3",
    "tiny_mixed_cameras",
    "tiny_wo_backbone_cross_attn",
    "tiny_wo_cost_volume",
    "tiny_wo_cost_volume_refine",
    "tiny_wo_depth_refine",
)
OUTPUTS = (
    "cnn_features",
    "transformer_features",
    "cost_volume_input",
    "depth_logits",
    "depths",
    "densities",
    "means",
    "covariances",
    "harmonics_3dgs",
    "opacities",
)
# The published ablation hands its depth head no cost volume to record.
NOT_RECORDED = {"tiny_wo_cost_volume_refine": ("cost_volume_input",)}
# The published parameters whose gradients two of the cases hold.
GRADIENTS = (
    "backbone.backbone.conv1.weight",
    "backbone.transformer.layers.1.cross_attn_ffn.k_proj.weight",
    "depth_predictor.corr_refine_net.0.weight",
    "depth_predictor.depth_head_lowres.0.weight",
    "depth_predictor.refine_unet.3.middle_block.0.in_layers.0.weight",
    "depth_predictor.regressor_residual.weight",
    "depth_predictor.to_disparity.2.weight",
    "depth_predictor.to_gaussians.2.bias",
    "depth_predictor.to_gaussians.2.weight",
)
# What the reference expects of |difference| / rms: at most, and on average.
MAXIMUM, MEAN = 1e-3, 1e-5
# One value in a thousand may pass the maximum: far depths amplify rounding.
EXCEPTIONS = 1e-3


@lru_cache
def shapes() -> dict[str, dict[str, list[int]]]:
    """Published parameter shapes by case."""
    return json.loads((FOLDER / "shapes.json").read_text())


def outputs(case: str) -> list[str]:
    """The outputs of a case that ours are compared with."""
    return [name for name in OUTPUTS if name not in NOT_RECORDED.get(case, ())]


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
