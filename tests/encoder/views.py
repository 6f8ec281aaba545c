"""Small inputs and a small encoder that the encoder's tests share."""

import torch

from mvsplat import CostVolumeEncoder, Views

SMALL = dict(
    d_feature=32,
    cnn_widths=(16, 24, 32),
    transformer_blocks=2,
    depth_candidates=16,
    cost_volume_widths=(16, 16),
    cost_volume_attention=(2,),
    refinement_widths=(16, 16),
    refinement_attention=(2,),
    gaussian_head_width=32,
    sh_degree=1,
)


def small_encoder(seed: int = 0, **arguments) -> CostVolumeEncoder:
    torch.manual_seed(seed)
    return CostVolumeEncoder(**{**SMALL, **arguments})


def random_views(scenes: int = 1, count: int = 2, height: int = 32, width: int = 48) -> Views:
    """Noise seen by cameras side by side, each with intrinsics of its own."""
    generator = torch.Generator().manual_seed(scenes * 10 + count)
    extrinsics = torch.eye(4).repeat(scenes, count, 1, 1)
    extrinsics[..., 0, 3] = 0.3 * torch.arange(count)
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]).repeat(scenes, count, 1, 1)
    intrinsics[..., 0, 2] += 0.02 * torch.arange(count)
    return Views(
        image=torch.rand(scenes, count, 3, height, width, generator=generator),
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        near=torch.full((scenes, count), 1.0),
        far=torch.full((scenes, count), 20.0),
    )
