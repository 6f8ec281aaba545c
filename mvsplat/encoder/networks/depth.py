"""Depth of the context views: coarse from the cost volume, then refined at full resolution."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu
from mvsplat.encoder.cpu.convolution import concatenate, conv1x1, conv3x3
from mvsplat.encoder.cpu.normalization import group_norm
from mvsplat.encoder.cpu.sequences import norm_gelu
from mvsplat.encoder.networks.layers import Head, upsample
from mvsplat.encoder.networks.unet import UNet

# The backbone's features have a quarter of the images' resolution.
FEATURE_STRIDE = 4


def disparity_candidates(
    near: Float[Tensor, " n"], far: Float[Tensor, " n"], count: int
) -> Float[Tensor, "n d"]:
    """Candidates uniform in disparity from 1 / far to 1 / near, ascending."""
    steps = torch.linspace(0, 1, count, device=near.device)
    low, high = 1 / far.float()[:, None], 1 / near.float()[:, None]
    return low + steps * (high - low)


def local_candidates(
    disparity: Float[Tensor, "n 1 h w"],
    near: Float[Tensor, " n"],
    far: Float[Tensor, " n"],
    count: int,
    step: Float[Tensor, " n"],
) -> Float[Tensor, "n d h w"]:
    """Candidates of each pixel around a disparity, ascending (DepthSplat's second scale).

    ``count`` of them, from half as many steps below the disparity to one less above it, evenly
    spread over what of that is within the bounds.
    """
    low, high, step = (x.float()[:, None, None, None] for x in (1 / far, 1 / near, step))
    first = torch.maximum(disparity - count // 2 * step, low)
    last = torch.minimum(disparity + (count - count // 2 - 1) * step, high)
    steps = torch.linspace(0, 1, count, device=near.device)[:, None, None]
    return first + steps * (last - first)


class CoarseDepthLogits(nn.Module):
    """Logits over the depth candidates at a quarter of the resolution.

    Args:
        channels: Width of the backbone's features.
        candidates: Depth candidates D.
        widths: Channels of the U-Net's levels.
        attention: Down-sampling factors at which the U-Net attends.
        volume: Whether the input has a cost volume of D channels before the features.
        unet: Refine the volume by a U-Net; without it, by one convolution.
        checkpointing: Recompute the U-Net's activations in the backward pass.
    """

    def __init__(
        self,
        channels: int,
        candidates: int,
        widths: tuple[int, ...],
        attention: tuple[int, ...],
        volume: bool,
        unet: bool,
        checkpointing: bool,
    ):
        super().__init__()
        channels += candidates if volume else 0
        self.unet = None
        if unet:
            self.stem = nn.Sequential(
                conv3x3(channels, widths[0]), group_norm(widths[0]), nn.GELU()
            )
            self.unet = UNet(widths, attention, checkpointing)
            self.project = conv3x3(widths[0], candidates)
            self.residual = conv1x1(channels, candidates)
        else:
            self.project = conv3x3(channels, candidates)
        self.head = Head(candidates, 2 * candidates, candidates)

    def forward(self, inputs: Float[Tensor, "n c h w"], views: int) -> Float[Tensor, "n d h w"]:
        if self.unet is None:
            return self.head(self.project(inputs))
        refined = self.unet(self.stem(inputs), views)
        return self.head(self.project(refined) + self.residual(inputs))


class ScaleDepthLogits(nn.Module):
    """Logits over the depth candidates at one of DepthSplat's scales.

    Args:
        channels: Of the features beside the cost volume.
        candidates: Depth candidates D.
        widths: Channels of the U-Net's levels.
        attention: Down-sampling factors at which the U-Net attends.
        checkpointing: Recompute the U-Net's activations in the backward pass.
    """

    def __init__(
        self,
        channels: int,
        candidates: int,
        widths: tuple[int, ...],
        attention: tuple[int, ...],
        checkpointing: bool,
    ):
        super().__init__()
        channels, width = channels + candidates, widths[0]
        self.stem = nn.Sequential(conv3x3(channels, width), group_norm(width), nn.GELU())
        self.unet = UNet(widths, attention, checkpointing, pre_norm=True)
        self.project = conv3x3(width, width)
        self.residual = conv1x1(channels, width)
        self.head = Head(width, 2 * width, candidates, padding="replicate")

    def forward(self, inputs: Float[Tensor, "n c h w"], views: int) -> Float[Tensor, "n d h w"]:
        refined = self.project(self.unet(self.stem(inputs), views))
        return self.head(refined + self.residual(inputs))


class PixelDepth(NamedTuple):
    """What the refinement says of each pixel and each of its Gaussians.

    Args:
        features: Refined features for the Gaussian head.
        disparity: Inverse depth, within the views' bounds.
        opacity: In [0, 1], before division by the number of Gaussians a pixel.
    """

    features: Float[Tensor, "n c h w"]
    disparity: Float[Tensor, "n g h w"]
    opacity: Float[Tensor, "n g h w"]


class DepthRefinement(nn.Module):
    """Disparity offsets and opacities at full resolution, from a second U-Net.

    Args:
        channels: Width of the full-resolution features.
        widths: Channels of the U-Net's levels.
        attention: Down-sampling factors at which the U-Net attends.
        gaussians_per_pixel: Disparities and opacities predicted for each pixel.
        refine: Without it, one convolution gives the features, and disparity and opacity are the
            upsampled coarse disparity and its confidence.
        checkpointing: Recompute the U-Net's activations in the backward pass.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        attention: tuple[int, ...],
        gaussians_per_pixel: int,
        refine: bool,
        checkpointing: bool,
    ):
        super().__init__()
        width = widths[0]
        self.reduce = conv3x3(channels, width)
        self.stem = conv3x3(3 + width + 2, width)
        self.unet = None
        if refine:
            self.norm = group_norm(width, groups=4)
            self.unet = UNet(widths, attention, checkpointing)
            self.head = Head(width, 2 * width, 2 * gaussians_per_pixel)

    def forward(
        self,
        image: Float[Tensor, "n 3 h w"],
        features: Float[Tensor, "n c h4 w4"],
        disparity: Float[Tensor, "n 1 h w"],
        confidence: Float[Tensor, "n 1 h w"],
        views: int,
    ) -> PixelDepth:
        """``features`` are at a quarter of the resolution, to be enlarged."""
        reduced = self.reduce.after(enlarge, features)
        x = self.stem.after(concatenate, image, reduced, disparity, confidence)
        if self.unet is None:
            return PixelDepth(x, disparity, confidence)
        x = self.unet(norm_gelu(self.norm, x), views)
        # In bf16 disparities of far planes would be equal.
        offset, opacity = self.head(x).float().chunk(2, dim=1)
        return PixelDepth(x, disparity + offset, opacity.sigmoid())


def expected_disparity(
    logits: Float[Tensor, "n d h w"],
    candidates: Float[Tensor, "n d"] | Float[Tensor, "n d h w"],
) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
    """Expectation over the candidates and the largest probability, in float32.

    The candidates are those of all pixels of a view, or of each.
    """
    probabilities = logits.float().softmax(dim=1)
    if candidates.ndim == 2:
        candidates = candidates[:, :, None, None]
    disparity = (probabilities * candidates).sum(dim=1, keepdim=True)
    return disparity, probabilities.amax(dim=1, keepdim=True)


class FullResolutionFeatures(nn.Sequential):
    """Features of the backbone for full resolution, before :func:`enlarge`: one convolution."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(conv3x3(channels, out_channels))


def enlarge(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h4 w4"]:
    """The features at full resolution: bilinear x4, GELU.

    They are the largest maps of the model, so whoever needs them enlarges and forgets them.
    """
    return gelu(upsample(features, FEATURE_STRIDE))
