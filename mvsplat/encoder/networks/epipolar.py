"""The epipolar ablation: pixels attend to samples of their epipolar line instead of windows."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.products import Linear, linear
from mvsplat.encoder.cpu.recomputation import recompute_if
from mvsplat.encoder.networks.transformer import AttentionUpdate
from mvsplat.geometry.epipolar import distance_to_meeting, epipolar_segments, world_rays
from mvsplat.geometry.projection import pixel_centers
from mvsplat.types import Views

SAMPLES = 32
OCTAVES = 10


class EpipolarBlock(nn.Module):
    """A token's message to itself, then attention to the samples of its line with feed-forward.

    Attention of a token to itself alone is its value. Keys and values of the samples have no
    biases, so their projections move to the query and to the weighted sum. Where projections
    follow each other, the products of their weights are taken first.
    """

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.value = Linear(channels, channels, bias=False)
        self.self_message = AttentionUpdate(channels, None)
        self.query = Linear(channels, channels, bias=False)
        self.context = Linear(channels, 2 * channels, bias=False)
        self.cross_message = AttentionUpdate(channels, expansion)

    @property
    def joint_projections(self) -> tuple[nn.Linear, ...]:
        """Linear layers that are several square matrices in one, each initialised for itself."""
        return (self.context,)

    @property
    def updates(self) -> tuple[AttentionUpdate, ...]:
        """What follows each of its attentions."""
        return self.self_message, self.cross_message

    def forward(
        self, tokens: Float[Tensor, "n p c"], samples: Float[Tensor, "n p s c"]
    ) -> Float[Tensor, "n p c"]:
        # Products of weights in mixed precision would be rounded twice.
        with torch.autocast(tokens.device.type, enabled=False):
            to_key, to_value = self.context.weight.chunk(2)
            to_self = self.self_message.merged(self.value.weight)
            to_query = to_key.mT @ self.query.weight
            to_message = self.cross_message.merged(to_value)
        tokens = self.self_message(tokens, linear(tokens, to_self))
        query = linear(tokens, to_query).unsqueeze(-2)
        attended = F.scaled_dot_product_attention(query, samples, samples).squeeze(-2)
        return self.cross_message(tokens, linear(attended, to_message))


class EpipolarTransformer(nn.Module):
    """Attention along epipolar lines between two views (pixelSplat's, Charatan et al., 2024).

    Args:
        channels: Width of the tokens.
        blocks: Number of blocks.
        expansion: Hidden width of the feed-forward over its input's width.
        checkpointing: Recompute the blocks' activations in the backward pass.
    """

    def __init__(self, channels: int, blocks: int, expansion: int, checkpointing: bool):
        super().__init__()
        self.checkpointing = checkpointing
        self.depth_encoding = nn.Linear(2 * OCTAVES, channels)
        self.blocks = nn.ModuleList(EpipolarBlock(channels, expansion) for _ in range(blocks))

    def forward(
        self, features: Float[Tensor, "b v c h w"], views: Views
    ) -> Float[Tensor, "b v c h w"]:
        height, width = features.shape[-2:]
        samples = self._samples(features, views)
        tokens = rearrange(features, "b v c h w -> (b v) (h w) c")
        for block in self.blocks:
            tokens = recompute_if(self.checkpointing, block, tokens, samples)
        return tokens.view(*features.shape[:2], height, width, -1).permute(0, 1, 4, 2, 3)

    def _samples(self, features: Tensor, views: Views) -> Float[Tensor, "n p s c"]:
        """The other view's features along each pixel's line, plus an encoding of their depth."""
        points, disparity, seen = self._geometry(views, *features.shape[-2:])
        other = features.flip(1).flatten(0, 1).float()
        sampled = F.grid_sample(other, 2 * points - 1, align_corners=False)
        frequencies = 2 * torch.pi * 2 ** torch.arange(OCTAVES, device=features.device)
        phase = disparity[..., None] * frequencies
        encoding = self.depth_encoding(torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2))
        return torch.where(seen[..., None, None], sampled.permute(0, 2, 3, 1), 0) + encoding

    @staticmethod
    @torch.no_grad()
    # A decorator does not know where the tensors are.
    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def _geometry(views: Views, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sample points [n, p, s, 2], their relative disparities [n, p, s], seen pixels [n, p]."""
        cameras = [x.flatten(0, 1).float() for x in (views.extrinsics, views.intrinsics)]
        others = [x.flip(1).flatten(0, 1).float() for x in (views.extrinsics, views.intrinsics)]
        near, far = views.near.flatten().float(), views.far.flatten().float()
        centers = pixel_centers(height, width, near.device).flatten(0, 1)
        origins, directions = world_rays(centers.expand(len(near), -1, -1), *cameras)
        start, end, seen = epipolar_segments(origins, directions, others[0], others[1], near, far)
        steps = (torch.arange(SAMPLES, device=near.device) + 0.5) / SAMPLES
        points = start[:, :, None] + steps[:, None] * (end - start)[:, :, None]
        other_origins, other_directions = world_rays(points.flatten(1, 2), *others)
        distance = distance_to_meeting(
            origins[:, :, None],
            directions[:, :, None],
            other_origins.unflatten(1, points.shape[1:3]),
            other_directions.unflatten(1, points.shape[1:3]),
        )
        near, far = near[:, None, None], far[:, None, None]
        distance = distance.clamp(near, far)
        return points, (1 / near - 1 / distance) / (1 / near - 1 / far), seen
