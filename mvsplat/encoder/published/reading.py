"""Reading published files: the tensors that are meant, and whether they are all there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.configurable import CONFIG_KEY
from mvsplat.encoder.published.names import Entry

PREFIX = "encoder."
# Names listed of each kind of mismatch; a wrong size can touch hundreds.
LISTED = 12

State = Mapping[str, Tensor]


def load_content(path: str | os.PathLike) -> Any:
    """What a file holds; ValueError where there is none, or it cannot be read safely."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, with advice that is not for users
        raise ValueError(
            f"{path}: not a file of tensors that torch.load can read safely: {error}"
        ) from error


def encoder_state(checkpoint: Mapping[str, Any] | str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of the encoder in a released checkpoint, under its names without a prefix.

    Raises:
        ValueError: There are none, or it is a checkpoint of this package.
    """
    origin = "the state dict"
    if isinstance(checkpoint, (str, os.PathLike)):
        origin, checkpoint = str(checkpoint), load_content(checkpoint)
    content: Any = checkpoint
    if isinstance(content, Mapping) and CONFIG_KEY in content:
        raise ValueError(
            f"{origin} is already a checkpoint of this package: mvsplat.load_model opens it, and "
            "--model.weights or --ckpt_path of the commands"
        )
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
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
