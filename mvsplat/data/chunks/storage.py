"""Chunk and index files: reading without trust, writing whole or not at all."""

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.data.untrusted import is_file, read_json
from mvsplat.files import replacing


class MissingIndex(FileNotFoundError):
    """A folder of chunks has no index.json."""


def load_chunk(path: str | os.PathLike) -> dict[str, dict]:
    """Open a chunk, memory-mapped where its format allows it: its scenes' dicts by key.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or no chunk, or a key is in it twice.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no chunk {path}")
    try:
        _check_archive(path)
        scenes = _load_mapped(path)
    except Exception as error:  # torch, zipfile and pickle raise a dozen kinds on damaged files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or not a chunk of scenes: {reason}") from error
    if not isinstance(scenes, (list, tuple)):
        raise ValueError(f"{path} holds a {type(scenes).__name__}, expected a list of scenes")
    by_key: dict[str, dict] = {}
    for position, scene in enumerate(scenes):
        if not isinstance(scene, dict) or not isinstance(scene.get("key"), str):
            raise ValueError(f"{path}: entry {position} is no scene with a key")
        if scene["key"] in by_key:
            raise ValueError(f"{path} has scene {scene['key']!r} twice")
        by_key[scene["key"]] = scene
    return by_key


def chunk_paths(folder: Path) -> list[Path]:
    """A folder's chunks, without what an interrupted program may have left."""
    return sorted(path for path in folder.glob("*.torch") if not path.name.startswith("."))


def build_index(files: Iterable[Path]) -> dict[str, Path]:
    """Scene key to chunk file, from the files themselves.

    Raises:
        ValueError: A file is damaged, or a key is there twice.
    """
    index: dict[str, Path] = {}
    for path in files:
        for key in load_chunk(path):
            if key in index:
                raise ValueError(f"scene {key!r} is both in {index[key]} and in {path}")
            index[key] = path
    return index


def read_index(folder: Path) -> dict[str, Path]:
    """Scene key to chunk file, as the folder's index.json says.

    Raises:
        MissingIndex: There is none, though there are chunks.
        FileNotFoundError: There are no chunks either.
        ValueError: It is no index; names the scene.
    """
    path = folder / "index.json"
    if not is_file(path):
        kind = MissingIndex if chunk_paths(folder) else FileNotFoundError
        raise kind(
            f"{path} is missing; every split needs one beside its chunks (mvsplat verify "
            "--rebuild_index makes it)"
        )
    index = read_json(path)
    for key, name in index.items():
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise ValueError(f"{path}: {name!r} of scene {key!r} is no name of a file beside it")
    return {key: folder / name for key, name in index.items()}


def save_chunk(path: Path, scenes: Sequence[Mapping[str, Any]]) -> None:
    """Write scenes' dicts as a chunk; the file is there when it is complete.

    Raises:
        OSError: It cannot be written: the disk is full, say.
    """
    buffer = io.BytesIO()  # torch's own writer hides what went wrong with a file
    torch.save([{key: _compact(value) for key, value in scene.items()} for scene in scenes], buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def save_index(folder: Path, index: Mapping[str, str]) -> None:
    """Write a split's index.json: scene key to file name."""
    with replacing(folder / "index.json") as temporary:
        temporary.write_text(json.dumps(index, indent=0), encoding="utf-8")


def _check_archive(path: str | os.PathLike) -> None:
    """Refuse compressed records: torch writes none, and they may be bombs."""
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return  # the older format, which is no archive
        with zipfile.ZipFile(file) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise ValueError("it has compressed records, which torch.save never writes")


def _load_mapped(path: str | os.PathLike) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used with files saved with" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)


def _compact(value: Any) -> Any:
    """Without the rest of the storages that tensors are slices of; torch.save would write it."""
    if isinstance(value, list):
        return [_compact(item) for item in value]
    if isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value
