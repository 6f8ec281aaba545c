"""Where each parameter of ``CostVolumeEncoder`` is in a published state dict.

The published parameter names, and how their values become ours where the two differ; see
:mod:`mvsplat.published`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mvsplat.encoder.mvsplat import CostVolumeEncoder
from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.networks.epipolar import EpipolarBlock
from mvsplat.encoder.networks.unet import UNet
from mvsplat.geometry.harmonics_rotation import harmonics_rotation


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
