"""Released MVSplat checkpoints and UniMatch weights, loaded into ``CostVolumeEncoder``.

The published model differs from ours in names and in four ways that are folded into the weights or
set as options, so that the same Gaussians come out:

* Its spherical harmonics are the standard 3DGS ones evaluated at the direction (z, x, y), and
  degree 4 never reaches a pixel. Both are linear in the last convolution's outputs: folded there.
* Its quaternions are (x, y, z, w): rows of the same convolution change places.
* Queries, keys and values that we project together have a matrix each.
* ``published_harmonics_rotation``, ``published_ray_depth`` and ``published_shifted_mask`` (see
  ``CostVolumeEncoder``) are switched on.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.configurable import CONFIG_KEY
from mvsplat.encoder import CostVolumeEncoder, Encoder
from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.published.names import Entry, correspondence

PREFIX = "encoder."
# The published renderer ignores higher degrees.
RENDERED_DEGREE = 3
# Names listed of each kind of mismatch; a wrong size can touch hundreds.
LISTED = 12

State = Mapping[str, Tensor]


def load_encoder(
    checkpoint: Mapping[str, Any] | str | os.PathLike, **encoder_arguments: Any
) -> CostVolumeEncoder:
    """The encoder of a released MVSplat checkpoint, in eval mode.

    Sizes and ablations are read off the tensors' names and shapes.

    Args:
        checkpoint: A released Lightning checkpoint, its ``state_dict``, or the encoder's bare state
            dict with or without the prefix ``encoder.``; or a file with one of these.
        **encoder_arguments: Arguments of ``CostVolumeEncoder`` that override what was inferred.

    Raises:
        ValueError: The file holds no state dict, or tensors are missing, unexpected or misshapen;
            all of them are named in one message.
    """
    state = _encoder_state(checkpoint)
    encoder = CostVolumeEncoder(**{**determined_arguments(state), **encoder_arguments})
    store(encoder, state, "the published checkpoint")
    return encoder.eval()


def is_published(state: State) -> bool:
    """Whether tensors of an encoder have the published MVSplat's names."""
    return any(name.startswith(("backbone.backbone.", "depth_predictor.")) for name in state)


def determined_arguments(state: State) -> dict[str, Any]:
    """Arguments of ``CostVolumeEncoder`` that published tensors determine: sizes, behaviours."""
    return {**dict.fromkeys(CostVolumeEncoder.behaviours, True), **infer_arguments(state)}


def store(encoder: Encoder, state: State, origin: str) -> None:
    """Put published tensors in their places.

    Args:
        encoder: Changed in place.
        state: By the published names, without the prefix ``encoder.``.
        origin: What to call them in a message.

    Raises:
        ValueError: Tensors are missing, unexpected or misshapen; all are named in one message.
    """
    if not isinstance(encoder, CostVolumeEncoder):
        raise ValueError(f"{origin} fits a CostVolumeEncoder, not a {type(encoder).__name__}")
    entries = dict(correspondence(encoder))
    check_names_and_shapes(state, entries, origin)
    for name, entry in entries.items():
        entry.store(encoder, state[name])


def load_backbone(encoder: Encoder, path: str | os.PathLike) -> list[str]:
    """Initialise CNN and transformer from UniMatch's GMDepth weights.

    Args:
        encoder: Changed in place.
        path: A file whose entry ``model`` is a state dict; only names that the backbone has count.

    Returns:
        The names that were loaded.

    Raises:
        ValueError: The file has no such entry, nothing in it fits, or a tensor is misshapen.
    """
    backbone, state = _backbone_entries(encoder, path)
    assert isinstance(encoder, CostVolumeEncoder)
    for name, tensor in state.items():
        backbone[name].store(encoder, tensor)
    return list(state)


def check_backbone(encoder: Encoder, path: str | os.PathLike) -> None:
    """Raise what ``load_backbone`` would, and change nothing."""
    _backbone_entries(encoder, path)


def _backbone_entries(
    encoder: Encoder, path: str | os.PathLike
) -> tuple[dict[str, Entry], dict[str, Tensor]]:
    """Where UniMatch's tensors go, by their names, and those of them that the file has."""
    if not isinstance(encoder, CostVolumeEncoder):
        raise ValueError(
            f"model.backbone_weights are CostVolumeEncoder's, this encoder is a "
            f"{type(encoder).__name__}"
        )
    content = _load(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise ValueError(
            f"{path}: no entry 'model' with a state dict; is it a UniMatch checkpoint?"
        )
    backbone = {
        name.removeprefix("backbone."): entry
        for name, entry in correspondence(encoder)
        if name.startswith("backbone.")
    }
    state = {name: tensor for name, tensor in content["model"].items() if name in backbone}
    if not state:
        raise ValueError(
            f"{path}: none of its {len(content['model'])} tensors is one of the backbone's, "
            f"such as {next(iter(backbone))}"
        )
    check_names_and_shapes(state, {name: backbone[name] for name in state}, str(path))
    return backbone, state


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
        arguments |= _infer_unet(state, depth + "corr_refine_net.3.", "cost_volume")
    if refine:
        arguments |= _infer_unet(state, depth + "refine_unet.3.", "refinement")
    elif width := size(depth + "refine_unet.weight"):
        arguments["refinement_widths"] = (width,)
    return {name: value for name, value in arguments.items() if value is not None}


def _attention(state: State) -> str:
    if any(name.startswith("depth_encoding.") for name in state):
        return "epipolar"
    return "windows" if any(".cross_attn_ffn." in name for name in state) else "none"


def _infer_unet(state: State, prefix: str, argument: str) -> dict[str, Any]:
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


def _load(path: str | os.PathLike) -> Any:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, with advice that is not for users
        raise ValueError(
            f"{path}: not a file of tensors that torch.load can read safely: {error}"
        ) from error


def _encoder_state(checkpoint: Mapping[str, Any] | str | os.PathLike) -> dict[str, Tensor]:
    origin = "the state dict"
    if isinstance(checkpoint, (str, os.PathLike)):
        origin, checkpoint = str(checkpoint), _load(checkpoint)
    content: Any = checkpoint
    if isinstance(content, Mapping) and CONFIG_KEY in content:
        raise ValueError(
            f"{origin} is already a checkpoint of this package: mvsplat.load_model opens it, and "
            "--model.weights or --ckpt_path of the commands"
        )
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(isinstance(x, Tensor) for x in content.values()):
        raise ValueError(f"{origin}: found no state dict in it")
    if any(name.startswith(PREFIX) for name in content):
        # The rest belongs to other parts of the published program: losses, decoder.
        content = {n.removeprefix(PREFIX): x for n, x in content.items() if n.startswith(PREFIX)}
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def check_names_and_shapes(state: State, entries: Mapping[str, Entry] | State, origin: str) -> None:
    """Refuse tensors that do not fit an encoder; ValueError names all that are wrong."""
    wrong = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(entry.shape)}"
        for name, entry in entries.items()
        if name in state and tuple(state[name].shape) != tuple(entry.shape)
    ]
    problems = {
        "missing": [name for name in entries if name not in state],
        "unexpected": [name for name in state if name not in entries],
        "misshapen": wrong,
    }
    lines = []
    for kind, names in problems.items():
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines.append(f"{len(names)} {kind}: {'; '.join(names[:LISTED])}{more}")
    if lines:
        raise ValueError(f"{origin} does not fit this encoder: " + "\n".join(lines))
