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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mvsplat.encoder.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.cost_volume_encoder import CostVolumeEncoder
from mvsplat.encoder.epipolar import EpipolarBlock
from mvsplat.encoder.unet import UNet
from mvsplat.geometry.harmonics_rotation import harmonics_rotation

BEHAVIOURS = ("published_harmonics_rotation", "published_ray_depth", "published_shifted_mask")
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
    arguments = {**dict.fromkeys(BEHAVIOURS, True), **infer_arguments(state), **encoder_arguments}
    encoder = CostVolumeEncoder(**arguments)
    entries = dict(correspondence(encoder))
    _check(state, entries, "the published checkpoint")
    for name, entry in entries.items():
        entry.store(encoder, state[name])
    return encoder.eval()


def load_backbone(encoder: CostVolumeEncoder, path: str | os.PathLike) -> list[str]:
    """Initialise CNN and transformer from UniMatch's GMDepth weights.

    Args:
        encoder: Changed in place.
        path: A file whose entry ``model`` is a state dict; only names that the backbone has count.

    Returns:
        The names that were loaded.

    Raises:
        ValueError: The file has no such entry, nothing in it fits, or a tensor is misshapen.
    """
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
    _check(state, {name: backbone[name] for name in state}, str(path))
    for name, tensor in state.items():
        backbone[name].store(encoder, tensor)
    return list(state)


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


class Entry(NamedTuple):
    """Where a published tensor goes.

    Args:
        target: Our parameter, or None if the published one has no effect.
        shape: Shape of the published tensor.
        part: Which of ``parts`` equal runs of the target's rows it fills.
        parts: How many published tensors share the target.
        convert: Applied to the tensor first.
    """

    target: str | None
    shape: tuple[int, ...]
    part: int = 0
    parts: int = 1
    convert: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def store(self, encoder: CostVolumeEncoder, tensor: Tensor) -> None:
        """Copy a published tensor into its place."""
        if self.target is None:
            return
        place = encoder.get_parameter(self.target).chunk(self.parts)[self.part]
        tensor = tensor if self.convert is None else self.convert(tensor)
        place.copy_(tensor.reshape(place.shape))


def correspondence(encoder: CostVolumeEncoder) -> Iterator[tuple[str, Entry]]:
    """Every published parameter that this encoder corresponds to, and where it goes."""
    parameters = dict(encoder.named_parameters())
    for index, block in enumerate(encoder.transformer.blocks):
        if isinstance(block, EpipolarBlock):
            # A token that attends to itself alone needs neither query nor key.
            for letter in "qk":
                name = f"backbone.transformer.layers.{index}.self_attn.{letter}_proj.weight"
                yield name, Entry(None, tuple(block.value.weight.shape))
    for ours, theirs in _modules(encoder):
        names = (theirs,) if isinstance(theirs, str) else theirs
        for kind in ("weight", "bias"):
            if (target := f"{ours}.{kind}") not in parameters:
                continue
            shape = tuple(parameters[target].shape)
            if ours.endswith("gaussian_head.2"):
                yield f"{names[0]}.{kind}", _folded(target, shape)
                continue
            shape = (shape[0] // len(names), *shape[1:])
            if names[0].endswith((".qkv", ".proj_out")) and kind == "weight":
                shape = (*shape, 1)
            for part, name in enumerate(names):
                yield f"{name}.{kind}", Entry(target, shape, part, len(names))


def _folded(target: str, shape: tuple[int, ...]) -> Entry:
    """The last convolution of the Gaussian head: published rows, of which some are dropped."""
    published = OFFSET + SCALE + ROTATION + 3 * 25
    coefficients = (shape[0] - OFFSET - SCALE - ROTATION) // 3
    degree = round(coefficients**0.5) - 1
    # Published colour is Y(P d) with P d = (z, x, y): Y turned by the transpose of P.
    cyclic = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    basis = harmonics_rotation(cyclic.mT, degree)

    def fold(tensor: Tensor) -> Tensor:
        offset_scale, rotation, harmonics = tensor.split([OFFSET + SCALE, ROTATION, 75])
        kept = harmonics.unflatten(0, (3, 25))[:, :coefficients].double()
        standard = torch.einsum("kl,cl...->ck...", basis, kept).flatten(0, 1).to(tensor)
        return torch.cat([offset_scale, rotation.roll(1, dims=0), standard])

    return Entry(target, (published, *shape[1:]), convert=fold)


def _modules(encoder: CostVolumeEncoder) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """Pairs of our module's name and the published one's (several where ours holds several)."""
    yield from _cnn_modules(encoder)
    yield from _transformer_modules(encoder)
    coarse, depth = encoder.coarse_depth, "depth_predictor."
    if coarse.unet is None:
        yield "coarse_depth.project", depth + "corr_project"
    else:
        yield from _unet_modules("coarse_depth.unet", coarse.unet, depth + "corr_refine_net.3")
        for ours, theirs in (("stem.0", "0"), ("stem.1", "1"), ("project", "4")):
            yield f"coarse_depth.{ours}", f"{depth}corr_refine_net.{theirs}"
        yield "coarse_depth.residual", depth + "regressor_residual"
    for index in (0, 2):
        yield f"coarse_depth.head.{index}", f"{depth}depth_head_lowres.{index}"
        yield f"gaussian_head.{index}", f"{depth}to_gaussians.{index}"
    yield "full_resolution.0", depth + "upsampler.0"
    yield "refinement.reduce", depth + "proj_feature"
    if encoder.refinement.unet is None:
        yield "refinement.stem", depth + "refine_unet"
    else:
        yield "refinement.stem", depth + "refine_unet.0"
        yield "refinement.norm", depth + "refine_unet.1"
        yield from _unet_modules(
            "refinement.unet", encoder.refinement.unet, depth + "refine_unet.3"
        )
        for index in (0, 2):
            yield f"refinement.head.{index}", f"{depth}to_disparity.{index}"


def _cnn_modules(encoder: CostVolumeEncoder) -> Iterator[tuple[str, str]]:
    cnn = "backbone.backbone."
    yield "cnn.stem", cnn + "conv1"
    yield "cnn.project", cnn + "conv2"
    for index in range(len(encoder.cnn.blocks)):
        block = f"{cnn}layer{index // 2 + 1}.{index % 2}."
        for ours, theirs in (("conv1", "conv1"), ("conv2", "conv2"), ("shortcut", "downsample.0")):
            yield f"cnn.blocks.{index}.{ours}", block + theirs


def _transformer_modules(
    encoder: CostVolumeEncoder,
) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    message = (
        ("merge", "merge"),
        ("norm", "norm1"),
        ("feed_forward.0", "mlp.0"),
        ("feed_forward.2", "mlp.2"),
        ("feed_forward.3", "norm2"),
    )
    for index, block in enumerate(encoder.transformer.blocks):
        ours, theirs = f"transformer.blocks.{index}.", f"backbone.transformer.layers.{index}."
        own = [theirs + f"self_attn.{x}_proj" for x in "qkv"]
        context = [theirs + f"cross_attn_ffn.{x}_proj" for x in "kv"]
        for one, other in message:
            yield f"{ours}self_message.{one}", f"{theirs}self_attn.{other}"
            yield f"{ours}cross_message.{one}", f"{theirs}cross_attn_ffn.{other}"
        yield ours + "query", f"{theirs}cross_attn_ffn.q_proj"
        if isinstance(block, EpipolarBlock):
            yield ours + "value", own[2]
            yield ours + "context", tuple(context)
        else:
            yield ours + "project", tuple(own + context if block.cross_view else own)
    yield "transformer.depth_encoding", "depth_encoding.1"


def _unet_modules(ours: str, unet: UNet, theirs: str) -> Iterator[tuple[str, str]]:
    def residual(one: str, other: str) -> Iterator[tuple[str, str]]:
        names = ("in_layers.0", "in_layers.1", "out_layers.0", "out_layers.1", "skip_connection")
        for part, name in zip(("conv1", "norm1", "conv2", "norm2", "skip"), names):
            yield f"{one}.{part}", f"{other}.{name}"

    def stage(one: str, other: str) -> Iterator[tuple[str, str]]:
        yield from residual(f"{one}.residual", f"{other}.0")
        for part, name in (("qkv", "qkv"), ("project", "proj_out"), ("norm", "norm")):
            yield f"{one}.attention.{part}", f"{other}.1.{name}"

    yield f"{ours}.stem", f"{theirs}.input_blocks.0.0"
    for level in range(len(unet.down)):
        yield from stage(f"{ours}.down.{level}", f"{theirs}.input_blocks.{2 * level + 1}")
        if level > 0:
            yield f"{ours}.reduce.{level - 1}", f"{theirs}.input_blocks.{2 * level}.0.op"
    for index, slot in enumerate((0, 2)):
        yield from residual(f"{ours}.middle.{index}", f"{theirs}.middle_block.{slot}")
    for index, block in enumerate(unet.up):
        yield from stage(f"{ours}.up.{index}", f"{theirs}.output_blocks.{index}")
        if index % 2 == 1 and index // 2 < len(unet.expand):
            slot = 1 if block.attention is None else 2
            yield f"{ours}.expand.{index // 2}", f"{theirs}.output_blocks.{index}.{slot}.conv"
    for index in (0, 1):
        yield f"{ours}.out.{index}", f"{theirs}.out.{index}"


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
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(isinstance(x, Tensor) for x in content.values()):
        raise ValueError(f"{origin}: found no state dict in it")
    if any(name.startswith(PREFIX) for name in content):
        # The rest belongs to other parts of the published program: losses, decoder.
        content = {n.removeprefix(PREFIX): x for n, x in content.items() if n.startswith(PREFIX)}
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _check(state: State, entries: Mapping[str, Entry], origin: str) -> None:
    wrong = [
        f"{name} {tuple(state[name].shape)}, expected {entry.shape}"
        for name, entry in entries.items()
        if name in state and tuple(state[name].shape) != entry.shape
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
