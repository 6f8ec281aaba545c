"""Where published tensors go: entries, and the names of the parts that published models share.

See :mod:`mvsplat.published`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mvsplat.encoder.networks.adapter import OFFSET, ROTATION, SCALE
from mvsplat.encoder.networks.backbone import ResidualCNN
from mvsplat.encoder.networks.epipolar import EpipolarBlock, EpipolarTransformer
from mvsplat.encoder.networks.transformer import MultiViewTransformer
from mvsplat.encoder.networks.unet import UNet
from mvsplat.geometry.harmonics_rotation import harmonics_rotation

ModuleNames = Iterator[tuple[str, str | tuple[str, ...]]]
"""Pairs of our module's name and the published one's (several where ours holds several)."""


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
    def store(self, model: nn.Module, tensor: Tensor) -> None:
        """Copy a published tensor into its place."""
        if self.target is None:
            return
        place = model.get_parameter(self.target).chunk(self.parts)[self.part]
        tensor = tensor if self.convert is None else self.convert(tensor)
        place.copy_(tensor.reshape(place.shape))


def entries(
    model: nn.Module, modules: Iterable[tuple[str, str | tuple[str, ...]]]
) -> Iterator[tuple[str, Entry]]:
    """Published parameters of modules, as many as ours have, and where they go."""
    parameters = dict(model.named_parameters())
    for ours, theirs in modules:
        names = (theirs,) if isinstance(theirs, str) else theirs
        for kind in ("weight", "bias"):
            if (target := f"{ours}.{kind}") not in parameters:
                continue
            shape = tuple(parameters[target].shape)
            shape = (shape[0] // len(names), *shape[1:])
            if names[0].endswith((".qkv", ".proj_out")) and kind == "weight":
                shape = (*shape, 1)
            for part, name in enumerate(names):
                yield f"{name}.{kind}", Entry(target, shape, part, len(names))


def folded(target: str, shape: tuple[int, ...], published_degree: int, leading: int = 0) -> Entry:
    """The last convolution of the Gaussian head: published rows, of which some are dropped.

    Args:
        target: Our parameter.
        shape: Its shape.
        published_degree: Degree of the published harmonics, at least ours.
        leading: Rows before those that the adapter takes.
    """
    coefficients = (shape[0] - leading - OFFSET - SCALE - ROTATION) // 3
    degree = round(coefficients**0.5) - 1
    all_coefficients = (published_degree + 1) ** 2
    rows = (leading + OFFSET + SCALE, ROTATION, 3 * all_coefficients)
    # Published colour is Y(P d) with P d = (z, x, y): Y turned by the transpose of P.
    cyclic = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    basis = harmonics_rotation(cyclic.mT, degree)

    def fold(tensor: Tensor) -> Tensor:
        first, rotation, harmonics = tensor.split(rows)
        kept = harmonics.unflatten(0, (3, all_coefficients))[:, :coefficients].double()
        standard = torch.einsum("kl,cl...->ck...", basis, kept).flatten(0, 1).to(tensor)
        return torch.cat([first, rotation.roll(1, dims=0), standard])

    return Entry(target, (sum(rows), *shape[1:]), convert=fold)


def cnn_modules(ours: str, cnn: ResidualCNN, theirs: str) -> ModuleNames:
    """Of UniMatch's CNN; the names are prefixes."""
    yield f"{ours}stem", f"{theirs}conv1"
    yield f"{ours}project", f"{theirs}conv2"
    for index in range(len(cnn.blocks)):
        block = f"{theirs}layer{index // 2 + 1}.{index % 2}."
        for one, other in (("conv1", "conv1"), ("conv2", "conv2"), ("shortcut", "downsample.0")):
            yield f"{ours}blocks.{index}.{one}", block + other


def transformer_modules(
    ours: str, transformer: MultiViewTransformer | EpipolarTransformer, theirs: str
) -> ModuleNames:
    """Of UniMatch's transformer and the epipolar one; the names are prefixes."""
    message = (
        ("merge", "merge"),
        ("norm", "norm1"),
        ("feed_forward.0", "mlp.0"),
        ("feed_forward.2", "mlp.2"),
        ("feed_forward.3", "norm2"),
    )
    for index, block in enumerate(transformer.blocks):
        block_ours, block_theirs = f"{ours}blocks.{index}.", f"{theirs}layers.{index}."
        own = [block_theirs + f"self_attn.{x}_proj" for x in "qkv"]
        context = [block_theirs + f"cross_attn_ffn.{x}_proj" for x in "kv"]
        for one, other in message:
            yield f"{block_ours}self_message.{one}", f"{block_theirs}self_attn.{other}"
            yield f"{block_ours}cross_message.{one}", f"{block_theirs}cross_attn_ffn.{other}"
        yield block_ours + "query", f"{block_theirs}cross_attn_ffn.q_proj"
        if isinstance(block, EpipolarBlock):
            yield block_ours + "value", own[2]
            yield block_ours + "context", tuple(context)
        else:
            yield block_ours + "project", tuple(own + context if block.cross_view else own)


def unet_modules(ours: str, unet: UNet, theirs: str) -> ModuleNames:
    """Of both models' U-Nets."""
    # Where the activation is last, convolutions come first.
    norm, first, second = ("0", "2", "3") if unet.pre_norm else ("1", "0", "0")
    parts = (
        ("conv1", f"in_layers.{first}"),
        ("norm1", f"in_layers.{norm}"),
        ("conv2", f"out_layers.{second}"),
        ("norm2", f"out_layers.{norm}"),
        ("skip", "skip_connection"),
    )

    def residual(one: str, other: str) -> ModuleNames:
        for part, name in parts:
            yield f"{one}.{part}", f"{other}.{name}"

    def stage(one: str, other: str) -> ModuleNames:
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
    for index in (0, 2) if unet.pre_norm else (0, 1):
        yield f"{ours}.out.{index}", f"{theirs}.out.{index}"
