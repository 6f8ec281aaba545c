"""What is in a file of weights; nothing in it is executed, and what is no such file is named."""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mvsplat.configurable import CONFIG_KEY

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer in place of the file: run git lfs pull",
    b"<!doctype html": "a web page, not the file it leads to",
    b"<html": "a web page, not the file it leads to",
    b"ply": "a splat or a mesh (PLY), not weights: mvsplat view shows it",
    b"gltf": "a splat or a mesh (glTF), not weights: mvsplat view shows splats",
    b"ngsp": "a splat (.spz), not weights: mvsplat view shows it",
    b"\x89hdf": "an HDF5 file, not weights of PyTorch",
    b"\x93numpy": "a NumPy array, not weights",
}


def load_content(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint, a state dict or a safetensors file, mapped where it can be.

    A safetensors file comes as a checkpoint does: its tensors as ``state_dict``, beside what it
    says of its model in its metadata.

    Raises:
        ValueError: It is damaged, or something else.
    """
    if is_safetensors(path):
        return _load_safetensors(path)
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty")
    for beginning, what in _STARTS.items():
        if start.lower().startswith(beginning):
            raise ValueError(f"{path} is {what}")
    mapped = zipfile.is_zipfile(path)
    if start.startswith(b"PK") and not mapped:
        size = path.stat().st_size
        raise ValueError(f"{path} is damaged: it is cut short, after {size:,} bytes")
    return _load_torch(path, mapped, start)


def _load_torch(path: Path, mapped: bool, start: bytes) -> Mapping[str, Any]:
    try:
        # Mapped, so that asking what a file is reads next to nothing of it.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch.load raises many kinds
        if code := re.search(r"GLOBAL (\S+) was not an allowed global", str(error)):
            raise ValueError(
                f"{path} holds more than tensors and settings: it wants {code[1]}, and nothing in "
                "a file of weights is executed; ask whoever made it for its bare state dict"
            ) from error
        what = (
            "a zip archive that torch cannot read" if mapped else f"it begins with {start[:16]!r}"
        )
        raise ValueError(f"{path} is damaged or not a checkpoint: {what}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} is not a checkpoint: a {type(content).__name__} found in it")
    return content


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as the safetensors format does: a length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and 2 <= length <= _LONGEST_HEADER


def _load_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content: dict[str, Any] = {"state_dict": {n: file.get_tensor(n) for n in file.keys()}}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if CONFIG_KEY in metadata:
        try:
            content[CONFIG_KEY] = json.loads(metadata[CONFIG_KEY])
        except ValueError as error:
            raise ValueError(f"{path} is damaged: its {CONFIG_KEY} is no JSON") from error
    return content
