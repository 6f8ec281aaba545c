"""The published MVSplat: its parameters' names, and what their shapes say of its sizes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mvsplat.encoder.mvsplat import CostVolumeEncoder
from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.networks.epipolar import EpipolarBlock
from mvsplat.encoder.published.names import (
    Entry,
    ModuleNames,
    cnn_modules,
    entries,
    folded,
    transformer_modules,
    unet_modules,
)

# The published renderer ignores higher degrees than 3 of the published harmonics.
PUBLISHED_DEGREE, RENDERED_DEGREE = 4, 3

State = Mapping[str, Tensor]


def is_mvsplat(state: State) -> bool:
    """Whether tensors of an encoder have the published MVSplat's names."""
    return any(name.startswith(("backbone.backbone.", "depth_predictor.")) for name in state)


def correspondence(encoder: CostVolumeEncoder) -> Iterator[tuple[str, Entry]]:
    """Every published parameter that this encoder corresponds to, and where it goes."""
    for index, block in enumerate(encoder.transformer.blocks):
        if isinstance(block, EpipolarBlock):
            # A token that attends to itself alone needs neither query nor key.
            for letter in "qk":
                name = f"backbone.transformer.layers.{index}.self_attn.{letter}_proj.weight"
                yield name, Entry(None, tuple(block.value.weight.shape))
    yield from entries(encoder, _modules(encoder))
    for kind in ("weight", "bias"):
        target = f"gaussian_head.2.{kind}"
        shape = tuple(encoder.get_parameter(target).shape)
        entry = folded(target, shape, PUBLISHED_DEGREE)
        yield f"depth_predictor.to_gaussians.2.{kind}", entry


def _modules(encoder: CostVolumeEncoder) -> ModuleNames:
    yield from cnn_modules("cnn.", encoder.cnn, "backbone.backbone.")
    yield from transformer_modules("transformer.", encoder.transformer, "backbone.transformer.")
    yield "transformer.depth_encoding", "depth_encoding.1"
    coarse, depth = encoder.coarse_depth, "depth_predictor."
    if coarse.unet is None:
        yield "coarse_depth.project", depth + "corr_project"
    else:
        yield from unet_modules("coarse_depth.unet", coarse.unet, depth + "corr_refine_net.3")
        for ours, theirs in (("stem.0", "0"), ("stem.1", "1"), ("project", "4")):
            yield f"coarse_depth.{ours}", f"{depth}corr_refine_net.{theirs}"
        yield "coarse_depth.residual", depth + "regressor_residual"
    for index in (0, 2):
        yield f"coarse_depth.head.{index}", f"{depth}depth_head_lowres.{index}"
    yield "gaussian_head.0", depth + "to_gaussians.0"
    yield "full_resolution.0", depth + "upsampler.0"
    yield "refinement.reduce", depth + "proj_feature"
    if encoder.refinement.unet is None:
        yield "refinement.stem", depth + "refine_unet"
    else:
        yield "refinement.stem", depth + "refine_unet.0"
        yield "refinement.norm", depth + "refine_unet.1"
        yield from unet_modules("refinement.unet", encoder.refinement.unet, depth + "refine_unet.3")
        for index in (0, 2):
            yield f"refinement.head.{index}", f"{depth}to_disparity.{index}"


def infer_arguments(state: State) -> dict[str, Any]:
    """The arguments of ``CostVolumeEncoder`` that published tensors' names and shapes imply."""

    def size(name: str, axis: int = 0) -> int | None:
        return state[name].shape[axis] if name in state else None

    depth = "depth_predictor."
    d_feature = size("backbone.backbone.conv2.weight")
    layers = {
        m[1] for name in state if (m := re.match(r"backbone\.transformer\.layers\.(\d+)", name))
    }
    mlp = next((name for name in state if name.endswith("mlp.0.weight")), "")
    volume = size(depth + "corr_refine_net.0.weight", 1) or size(depth + "corr_project.weight", 1)
    unet = depth + "corr_project.weight" not in state
    refine = depth + "refine_unet.weight" not in state
    outputs = size(depth + "to_gaussians.2.weight") or OFFSET + SCALE + ROTATION + 3 * 25
    degree = round(((outputs - OFFSET - SCALE - ROTATION) / 3) ** 0.5) - 1
    cnn = [
        size(f"backbone.backbone.{part}.weight")
        for part in ("conv1", "layer2.0.conv1", "layer3.0.conv1")
    ]
    arguments = {
        "d_feature": d_feature,
        "cnn_widths": tuple(cnn) if None not in cnn else None,
        "transformer_blocks": len(layers) or None,
        "transformer_expansion": state[mlp].shape[0] // state[mlp].shape[1] if mlp else None,
        "cross_view_attention": _attention(state),
        "depth_candidates": size(depth + "depth_head_lowres.2.weight"),
        "cost_volume": None if volume is None else volume != d_feature,
        "cost_volume_unet": unet,
        "depth_refinement": refine,
        "gaussians_per_pixel": (size(depth + "to_disparity.2.weight") or 2) // 2,
        "gaussian_head_width": size(depth + "to_gaussians.0.weight"),
        "sh_degree": max(0, min(degree, RENDERED_DEGREE)),
    }
    if unet:
        arguments |= infer_unet(state, depth + "corr_refine_net.3.", "cost_volume")
    if refine:
        arguments |= infer_unet(state, depth + "refine_unet.3.", "refinement")
    elif width := size(depth + "refine_unet.weight"):
        arguments["refinement_widths"] = (width,)
    return {name: value for name, value in arguments.items() if value is not None}


def _attention(state: State) -> str:
    if any(name.startswith("depth_encoding.") for name in state):
        return "epipolar"
    return "windows" if any(".cross_attn_ffn." in name for name in state) else "none"


def infer_unet(state: State, prefix: str, argument: str) -> dict[str, Any]:
    """Level ``l`` of a published U-Net is its input block ``2 l + 1``."""
    widths: list[int] = []
    attention: list[int] = []
    while (name := f"{prefix}input_blocks.{2 * len(widths) + 1}.0.in_layers.0.weight") in state:
        if f"{prefix}input_blocks.{2 * len(widths) + 1}.1.qkv.weight" in state:
            attention.append(2 ** len(widths))
        widths.append(state[name].shape[0])
    if not widths:
        return {}
    return {f"{argument}_widths": tuple(widths), f"{argument}_attention": tuple(attention)}
