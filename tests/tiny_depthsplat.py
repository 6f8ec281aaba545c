"""Tiny DepthSplat models, and files of their weights by the published names."""

import torch

from mvsplat import DepthSplatEncoder
from mvsplat.encoder.published.depthsplat import correspondence

SIZES = dict(
    vit_width=64,
    vit_layers=(0, 1, 2, 3),
    d_feature=32,
    cnn_widths=(16, 24, 32),
    transformer_blocks=2,
    transformer_expansion=2,
    depth_candidates=16,
    local_candidates=8,
    cost_volume_width=32,
    dpt_widths=(8, 12, 16, 24),
    offset_width=8,
)
GAUSSIANS = dict(feature_width=12, regressor_width=8, sh_degree=1)
# As in the released configurations: scales and the coarsest features' stride.
KINDS = {"small": (1, 4), "base": (2, 4), "small low": (1, 8), "base low": (2, 8)}


def small_depthsplat(kind: str = "base", **arguments) -> DepthSplatEncoder:
    torch.manual_seed(0)
    scales, stride = KINDS[kind]
    sizes = dict(scales=scales, lowest_feature_stride=stride, **SIZES, **GAUSSIANS)
    encoder = DepthSplatEncoder(**sizes | arguments)
    # From zero-initialised layers nothing flows further: leave the start first.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return encoder.eval()


def published_state(model) -> dict[str, torch.Tensor]:
    """Random published tensors of a model's sizes."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: 0.05 * torch.randn(entry.shape, generator=generator)
        for name, entry in correspondence(model)
    }
