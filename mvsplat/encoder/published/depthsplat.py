"""The published DepthSplat: its parameters' names, and what their shapes say of its sizes."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mvsplat.encoder.depthsplat import DepthSplatEncoder
from mvsplat.encoder.depthsplat_depth import DepthSplatDepth
from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.networks.depth import ScaleDepthLogits
from mvsplat.encoder.networks.dpt import LEVELS, DPTHead
from mvsplat.encoder.published.names import (
    Entry,
    ModuleNames,
    cnn_modules,
    entries,
    folded,
    transformer_modules,
    unet_modules,
)

DEPTH = "depth_predictor."
# Depth Anything V2 uses the outputs of four of a ViT's blocks: at each quarter, but for these.
VIT_LAYERS = {24: (4, 11, 17, 23)}

State = Mapping[str, Tensor]


def is_depthsplat(state: State) -> bool:
    """Whether tensors of an encoder have the published DepthSplat's names, of any version."""
    return any(name.startswith((f"{DEPTH}pretrained.", f"{DEPTH}backbone.")) for name in state)


def is_depth_alone(state: State) -> bool:
    """Whether tensors are those of a released file of depth without Gaussians."""
    return "pretrained.cls_token" in state and "backbone.conv1.weight" in state


def correspondence(model: DepthSplatEncoder | DepthSplatDepth) -> Iterator[tuple[str, Entry]]:
    """Every published parameter that this model corresponds to, and where it goes."""
    if isinstance(model, DepthSplatDepth):
        yield from _depth_entries(model, "", model, "")
        return
    yield from _depth_entries(model, "depth.", model.depth, DEPTH)
    names = ("features.", "feature_upsampler.")
    yield from _dpt_entries(model, model.features, names, model.depth)
    regressor = [(f"regressor.{index}", f"gaussian_regressor.{index}") for index in (0, 2)]
    yield from entries(model, [*regressor, ("gaussian_head.0", "gaussian_head.0")])
    for kind in ("weight", "bias"):
        target = f"gaussian_head.2.{kind}"
        shape = tuple(model.get_parameter(target).shape)
        entry = folded(target, shape, model.adapter.sh_degree, leading=1)
        yield target, entry


def infer_arguments(state: State) -> dict[str, Any]:
    """The arguments that published tensors' names and shapes imply.

    Args:
        state: Of an encoder, or of a file of depth alone.

    Returns:
        Those of ``DepthSplatEncoder`` or of ``DepthSplatDepth``.
    """
    prefix = "" if is_depth_alone(state) else DEPTH

    def size(name: str, axis: int = 0, prefix: str = prefix) -> int | None:
        tensor = state.get(prefix + name)
        return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else None

    def sizes(*names: str) -> tuple[int, ...] | None:
        found = [size(name) for name in names]
        return None if None in found else tuple(n for n in found if n is not None)

    blocks = _count(state, f"{prefix}pretrained.blocks.")
    quarters = tuple(blocks * quarter // LEVELS - 1 for quarter in range(1, LEVELS + 1))
    hidden, inputs = (size("transformer.layers.0.cross_attn_ffn.mlp.0.weight", i) for i in (0, 1))
    joined, width = (size("upsampler.concat_projects.0.weight", axis) for axis in (1, 0))
    stem = size("backbone.conv1.weight")
    arguments = {
        "vit_width": size("pretrained.cls_token", 2),
        "vit_layers": VIT_LAYERS.get(blocks, quarters) if blocks else None,
        "scales": 2 if any(name.startswith(f"{prefix}mv_pyramid.") for name in state) else 1,
        # With a stride of 8, the second stage's map has half the size of the first's.
        "lowest_feature_stride": 8 if joined and width and joined - width == stem else 4,
        "d_feature": size("backbone.conv2.weight"),
        "cnn_widths": sizes(
            *(f"backbone.{x}.weight" for x in ("conv1", "layer2.0.conv1", "layer3.0.conv1"))
        ),
        "transformer_blocks": _count(state, f"{prefix}transformer.layers.") or None,
        "transformer_expansion": hidden // inputs if hidden and inputs else None,
        "depth_candidates": size("depth_head.0.2.weight"),
        "local_candidates": size("depth_head.1.2.weight"),
        "cost_volume_width": size("regressor.0.0.weight"),
        "dpt_widths": sizes(*(f"upsampler.projects.{i}.weight" for i in range(LEVELS))),
        "offset_width": size("upsampler.scratch.layer1_rn.weight"),
    }
    if prefix:
        outputs = size("gaussian_head.2.weight", prefix="") or 0
        coefficients = max(1, (outputs - 1 - OFFSET - SCALE - ROTATION) // 3)
        arguments |= {
            "feature_width": size("feature_upsampler.scratch.layer1_rn.weight", prefix=""),
            "regressor_width": size("gaussian_regressor.0.weight", prefix=""),
            "sh_degree": min(3, round(coefficients**0.5) - 1),
        }
    return {name: value for name, value in arguments.items() if value is not None}


def _count(state: State, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _depth_entries(
    model: DepthSplatEncoder | DepthSplatDepth, ours: str, depth: DepthSplatDepth, theirs: str
) -> Iterator[tuple[str, Entry]]:
    """Of the depth model, which is called ``ours`` in the model and has the names' prefix."""
    for name, parameter in depth.vit.named_parameters():
        yield f"{theirs}pretrained.{name}", Entry(f"{ours}vit.{name}", tuple(parameter.shape))
    yield from entries(model, _depth_modules(ours, depth, theirs))
    names = (f"{ours}offset_features.", f"{theirs}upsampler.")
    yield from _dpt_entries(model, depth.offset_features, names, depth)


def _depth_modules(ours: str, depth: DepthSplatDepth, theirs: str) -> ModuleNames:
    yield from cnn_modules(f"{ours}cnn.", depth.cnn, f"{theirs}backbone.")
    yield from transformer_modules(
        f"{ours}transformer.", depth.transformer, f"{theirs}transformer."
    )
    for index in (0, 2):
        for scale in range(1, len(depth.scales)):
            for one, other in (("matched", "mv"), ("vit", "mono")):
                published = f"{theirs}{other}_pyramid.stages.{scale}.{index}"
                yield f"{ours}{one}_pyramid.{scale - 1}.{index}", published
        published = f"{theirs}upsampler.scratch.output_conv.{index}"
        yield f"{ours}offset_head.head.{index}", published
    yield f"{ours}offset_head.last", f"{theirs}upsampler.scratch.output_conv.4"
    for number, logits in enumerate(depth.scales):
        assert isinstance(logits, ScaleDepthLogits)
        one, other = f"{ours}scales.{number}.", f"{theirs}regressor.{number}."
        for part, name in (("stem.0", "0"), ("stem.1", "1"), ("project", "4")):
            yield one + part, other + name
        yield from unet_modules(f"{one}unet", logits.unet, f"{other}3")
        yield f"{one}residual", f"{theirs}regressor_residual.{number}"
        for index in (0, 2):
            yield f"{one}head.{index}", f"{theirs}depth_head.{number}.{index}"


def _dpt_entries(
    model: DepthSplatEncoder | DepthSplatDepth,
    head: DPTHead,
    names: tuple[str, str],
    depth: DepthSplatDepth,
) -> Iterator[tuple[str, Entry]]:
    """Of a DPT head, whose names, ours and the published one, begin as given."""
    ours, theirs = names
    yield from entries(model, _dpt_modules(ours, theirs))
    # At 1/2, 1/4 and 1/8, the CNN's maps come before the ViT's, and what is left after it; but
    # where the second scale is at 1/2, the ViT's is last there.
    cnn_channels = [sum(channels) for channels in depth.by_stride(depth.joined_channels[:3])]
    vit_last = [len(depth.scales) > 1 and depth.upsampling == 2, False, False]
    for level, join in enumerate(head.join):
        assert isinstance(join, nn.Conv2d)
        width = join.out_channels
        convert = partial(_vit_first, cnn_channels[level], width, vit_last[level])
        name, target = f"{theirs}concat_projects.{level}", f"{ours}join.{level}"
        shape = tuple(join.weight.shape)
        yield f"{name}.weight", Entry(f"{target}.weight", shape, convert=convert)
        yield f"{name}.bias", Entry(f"{target}.bias", (width,))


def _vit_first(cnn_channels: int, vit_channels: int, vit_last: bool, tensor: Tensor) -> Tensor:
    """Columns of a published 1x1 convolution in our order: the ViT's, the CNN's, the rest."""
    first = tensor.shape[1] - vit_channels if vit_last else cnn_channels
    before, vit, after = tensor.split(
        [first, vit_channels, tensor.shape[1] - first - vit_channels], dim=1
    )
    return torch.cat([vit, before, after], dim=1)


def _dpt_modules(ours: str, theirs: str) -> ModuleNames:
    for level in range(LEVELS):
        yield f"{ours}reduce.{level}", f"{theirs}projects.{level}"
        yield f"{ours}resize.{level}", f"{theirs}resize_layers.{level}"
        yield f"{ours}project.{level}", f"{theirs}scratch.layer{level + 1}_rn"
        one, other = f"{ours}fuse.{level}.", f"{theirs}scratch.refinenet{level + 1}."
        yield f"{one}project", f"{other}out_conv"
        for conv in ("conv1", "conv2"):
            yield f"{one}skip.{conv}", f"{other}resConfUnit1.{conv}"
            yield f"{one}refine.{conv}", f"{other}resConfUnit2.{conv}"
