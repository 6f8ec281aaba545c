"""How the encoder's weights start.

``published`` is what the released models started from where no UniMatch weights are loaded.
``matching`` makes a network that already does something sensible, by weights alone: a pair of GELU
units with opposite inputs passes a value through unchanged, since gelu(x) - gelu(-x) = x, so the
raw correlation reaches the depth logits, and the image the harmonics' constant term.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE, SH_CONSTANT

# Features' standard deviation: twice the position encoding's, which knows nothing of the images.
FEATURE_GAIN = 2.0
# The coarse logits over the correlation, which grows with the square of the features' gain.
LOGIT_GAIN = 0.25
# The last norm of a transformer layer: features stay close to the CNN's.
UPDATE_NORM = 0.1
# Weights of branches that start silent. Far below the root of the instance norm's epsilon, so that
# the norm does not blow them up; a few optimizer steps bring them in.
SILENT = 1e-4
# Weights beside what is passed through, relative to the usual initialisation.
NOISE = 0.1
# What fills a tensor with random numbers when a module is built.
_DRAWS = (
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.kaiming_uniform_,
    nn.init.kaiming_normal_,
    nn.init.xavier_uniform_,
    Tensor.uniform_,
    Tensor.normal_,
)
# Standard deviation in pixels and opacity of the first Gaussians: sharp, and nearly opaque.
PIXEL_SCALE = 0.5
OPACITY = 0.8


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Modules that are built in this context have zeros for what they draw: load all of it.

    Drawing takes most of the time that building a large network does.
    """
    with _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Puts zeros where numbers would be drawn: some functions draw again until all are in range."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS:
            with torch.no_grad():
                return (args[0] if args else (kwargs or {})["tensor"]).zero_()
        return func(*args, **(kwargs or {}))


def initialize(encoder: nn.Module, kind: str) -> None:
    """Draw the weights anew."""
    if kind not in ("published", "matching"):
        raise ValueError(f"initialization is {kind!r}: expected 'published' or 'matching'")
    initialize_backbone(encoder)
    if kind == "matching":
        with torch.no_grad():
            _match_raw_features(encoder)
            _follow_correlation(encoder.coarse_depth, encoder.cost_volume is not None)
            _splat_pixels(encoder)


# The encoder's parts are Any below: of a module's attributes mypy knows only that they may be
# tensors or modules.


def initialize_backbone(encoder: Any) -> None:
    """Draw the weights of ``encoder.cnn`` and ``encoder.transformer`` as the published codes do."""
    for module in encoder.cnn.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for block in encoder.transformer.blocks:
        for module in block.modules():
            if isinstance(module, nn.Linear):
                # Projections that are one matrix here are several square ones there.
                square = module in block.joint_projections
                rows = module.in_features if square else module.out_features
                for part in module.weight.split(rows):
                    nn.init.xavier_uniform_(part)


def _match_raw_features(encoder: Any) -> None:
    """Features that tell pixels apart: few random layers, no aliasing, no common mean."""
    for block in encoder.cnn.blocks:
        if block.shortcut is None:
            block.conv2.weight *= SILENT
        elif block.shortcut.stride == (2, 2):
            # A strided 1x1 shortcut aliases; the other branch blurs before it drops pixels.
            block.shortcut.weight *= SILENT
            nn.init.zeros_(block.shortcut.bias)
            binomial = torch.tensor([0.25, 0.5, 0.25])
            mix = torch.randn_like(block.conv1.weight[:, :, :1, :1])
            block.conv1.weight.copy_(mix * torch.outer(binomial, binomial))
    project = encoder.cnn.project
    nn.init.orthogonal_(project.weight, gain=FEATURE_GAIN)
    project.weight -= project.weight.mean(dim=1, keepdim=True)
    nn.init.zeros_(project.bias)
    for block in encoder.transformer.blocks:
        for update in block.updates:
            nn.init.constant_(update.last_norm.weight, UPDATE_NORM)


def _follow_correlation(coarse: Any, volume: bool) -> None:
    """Coarse logits are the cost volume, plus little."""
    coarse.project.weight *= NOISE
    nn.init.zeros_(coarse.project.bias)
    shortcut = coarse.project if coarse.unet is None else coarse.residual
    if volume:
        _pass_through(shortcut, LOGIT_GAIN)
    hidden, _, last = coarse.head
    for conv in (hidden, last):
        conv.weight *= NOISE
        nn.init.zeros_(conv.bias)
    for channel in range(last.out_channels):
        for unit, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
            hidden.weight[unit, channel, 1, 1] += sign
            last.weight[channel, unit, 1, 1] += sign


def _pass_through(conv: nn.Conv2d, gain: float) -> None:
    """Each output is the input of the same number, plus little of the others."""
    center = conv.kernel_size[0] // 2
    conv.weight *= NOISE
    channel = torch.arange(conv.out_channels)
    conv.weight[:, : conv.out_channels] = 0
    conv.weight[channel, channel, center, center] = gain
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _splat_pixels(encoder: Any) -> None:
    """Small round Gaussians of the pixels' colours at the coarse depth."""
    if encoder.refinement.unet is not None:
        last = encoder.refinement.head[2]
        per_pixel = last.out_channels // 2
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        last.bias[per_pixel:] = math.log(OPACITY / (1 - OPACITY))
        if per_pixel > 1:
            # Gaussians of one pixel must differ, or they stay equal.
            nn.init.normal_(last.weight[:per_pixel], std=1e-3)
    hidden, _, last = encoder.gaussian_head
    last.weight *= NOISE
    nn.init.zeros_(last.bias)
    low, high = encoder.adapter.scale_range
    # A pixel's footprint is a tenth of the sum of its two sides.
    fraction = min(max((5 * PIXEL_SCALE - low) / (high - low), 0.01), 0.99)
    last.bias[OFFSET : OFFSET + SCALE] = math.log(fraction / (1 - fraction))
    last.bias[OFFSET + SCALE] = 1.0
    first = OFFSET + SCALE + ROTATION
    constants = range(first, last.out_channels, (last.out_channels - first) // 3)
    image = encoder.refinement.stem.out_channels
    for channel, row in enumerate(constants):
        nn.init.zeros_(last.weight[row])
        for unit, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
            nn.init.zeros_(hidden.weight[unit])
            hidden.weight[unit, image + channel, 1, 1] = sign
            hidden.bias[unit] = -0.5 * sign
            last.weight[row, unit, 1, 1] = sign / SH_CONSTANT
