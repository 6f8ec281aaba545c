"""Weights to hand on: without what only training needs, in half precision, saying what they are.

Half precision (10 bits of mantissa) halves the file and moves a pixel by less than its rounding to
8 bits; models are built in float32 all the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.configurable import CONFIG_KEY
from mvsplat.files import replacing
from mvsplat.weights.file_content import load_content

ABOUT = "about"
"""Where the description of a checkpoint's model keeps what the weights are good for."""

SUFFIXES = (".ckpt", ".safetensors")
_ENCODER = "encoder."


def pack(checkpoint: Path, output: Path, about: Mapping[str, Any]) -> None:
    """Write a checkpoint's encoder to a file that every command takes as weights.

    Args:
        checkpoint: A checkpoint of this package.
        output: Ends in ``.ckpt`` or ``.safetensors``.
        about: What to say of the weights: numbers, strings, lists and dicts. ``good_for`` is shown
            wherever they are used.

    Raises:
        ValueError: The checkpoint does not describe its model, has weights that half precision
            cannot hold, or the output has another ending.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(f"{output}: weights end in {' or '.join(SUFFIXES)}")
    content = load_content(checkpoint)
    described, state = content.get(CONFIG_KEY), content.get("state_dict")
    if not isinstance(described, Mapping) or not isinstance(state, Mapping):
        raise ValueError(f"{checkpoint} does not describe its model; pack a checkpoint of fit")
    described = {**described, ABOUT: dict(about)}
    halves = {n: _half(n, x, checkpoint) for n, x in state.items() if n.startswith(_ENCODER)}
    with replacing(output) as temporary:
        if output.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(halves, temporary, metadata={CONFIG_KEY: json.dumps(described)})
        else:
            torch.save({CONFIG_KEY: described, "state_dict": halves}, temporary)


def _half(name: str, tensor: Tensor, checkpoint: Path) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.contiguous()
    half = tensor.to(torch.float16).contiguous()
    if not torch.isfinite(half).all():
        raise ValueError(f"{checkpoint}: {name} has values that half precision cannot hold")
    return half
