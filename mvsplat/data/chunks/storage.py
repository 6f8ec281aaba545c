"""Chunk and index files: reading without trust, writing whole or not at all."""

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.data.storage.addresses import Address, Location, write_whole
from mvsplat.data.storage.cache import FileCache
from mvsplat.data.storage.facts import FileFacts
from mvsplat.data.untrusted import is_file, read_json

CHECKSUMS = "checksums.json"
_OF_CHUNK = ("bytes", "sha256")


class MissingIndex(FileNotFoundError):
    """A folder of chunks has no index.json."""


def load_chunk(
    path: str | os.PathLike | Address,
    cache: FileCache = FileCache(),
    facts: FileFacts | None = None,
    keep: Collection[str] = (),
) -> dict[str, dict]:
    """Open a chunk, memory-mapped where its format allows it: its scenes' dicts by key.

    Args:
        path: The file.
        cache: Where it is kept, if it is in object storage.
        facts: What storage tells of it, if that is known already.
        keep: What had better stay in the cache (see :meth:`FileCache.holding`).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or no chunk, or a key is in it twice.
        StorageAway: Storage does not answer, or refuses, or there is no room in the cache.
    """
    if not isinstance(path, Address):
        return _load_local(path, path)
    facts = path.facts() if facts is None else facts
    with cache.holding(path, facts, keep) as copy:
        assert copy is not None
        try:
            return _load_local(copy, path)
        except ValueError:
            cache.forget(path, facts)
            if facts.has_hash:
                raise
    # A copy whose hash nobody knows may have been spoiled here, or on its way.
    with cache.holding(path, facts, keep) as copy:
        assert copy is not None
        return _load_local(copy, path)


def _load_local(path: str | os.PathLike, origin: str | os.PathLike | Address) -> dict[str, dict]:
    """Open a chunk that is here; ``origin`` is what messages call it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no chunk {path}")
    try:
        _check_archive(path)
        scenes = _load_mapped(path)
    except Exception as error:  # torch, zipfile and pickle raise a dozen kinds on damaged files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{origin} is damaged or not a chunk of scenes: {reason}") from error
    if not isinstance(scenes, (list, tuple)):
        raise ValueError(f"{origin} holds a {type(scenes).__name__}, expected a list of scenes")
    by_key: dict[str, dict] = {}
    for position, scene in enumerate(scenes):
        if not isinstance(scene, dict) or not isinstance(scene.get("key"), str):
            raise ValueError(f"{origin}: entry {position} is no scene with a key")
        if scene["key"] in by_key:
            raise ValueError(f"{origin} has scene {scene['key']!r} twice")
        by_key[scene["key"]] = scene
    return by_key


def chunk_paths(folder: Location) -> list[Location]:
    """A folder's chunks, without what an interrupted program may have left.

    Where nothing is listed (by web servers, for one), they are those that index.json names.
    """
    if isinstance(folder, Address):
        try:
            names = list(folder.files())
            if not names and is_file(folder / "index.json"):
                names = [path.name for path in set(read_index(folder).values())]
        except FileNotFoundError:
            return []
        chunks = sorted(name for name in names if name.endswith(".torch") and name[0] != ".")
        return [folder / name for name in chunks]
    return sorted(path for path in folder.glob("*.torch") if not path.name.startswith("."))


def build_index(files: Iterable[Location]) -> dict[str, Location]:
    """Scene key to chunk file, from the files themselves.

    Raises:
        ValueError: A file is damaged, or a key is there twice.
    """
    index: dict[str, Location] = {}
    for path in files:
        for key in load_chunk(path):
            if key in index:
                raise ValueError(f"scene {key!r} is both in {index[key]} and in {path}")
            index[key] = path
    return index


def read_index(folder: Location) -> dict[str, Location]:
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


def read_checksums(folder: Location) -> dict[str, FileFacts]:
    """Size and SHA-256 of each chunk, as the folder's checksums.json says; {} if there is none.

    Raises:
        ValueError: It is no such file; names the chunk.
    """
    path = folder / CHECKSUMS
    if not is_file(path):
        return {}
    found: dict[str, FileFacts] = {}
    for name, entry in read_json(path).items():
        size, sha256 = (entry.get(key) if isinstance(entry, dict) else None for key in _OF_CHUNK)
        if not (isinstance(size, int) and re.fullmatch("[0-9a-f]{64}", str(sha256))):
            raise ValueError(f"{path}: {entry!r:.100} of {name!r} is no size and SHA-256")
        found[name] = FileFacts(size, sha256=str(sha256))
    return found


def facts_of_chunks(folder: Address) -> dict[Address, FileFacts]:
    """What a list of the folder and checksums.json say of its chunks, without asking for each.

    Where storage neither lists nor has checksums, that is nothing.

    Raises:
        ValueError: The two do not agree.
    """
    known = folder.files()
    for name, of in read_checksums(folder).items():
        listed = known.get(name, of)
        if listed.size != of.size:
            raise ValueError(
                f"{folder / CHECKSUMS} says that {name} has {of.size} bytes, but it has "
                f"{listed.size}: it belongs to other chunks; remove it, or upload them again"
            )
        known[name] = replace(listed, sha256=of.sha256)
    return {folder / name: of for name, of in known.items() if name.endswith(".torch")}


def save_checksums(folder: Location, checksums: Mapping[str, FileFacts]) -> None:
    """Write a split's checksums.json: chunk name to size and SHA-256."""
    content = {name: {"bytes": of.size, "sha256": of.sha256} for name, of in checksums.items()}
    write_whole(folder / CHECKSUMS, json.dumps(content, indent=0).encode())


def checksum(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return FileFacts(path.stat().st_size, sha256=digest.hexdigest())


def save_chunk(path: Location, scenes: Sequence[Mapping[str, Any]]) -> FileFacts:
    """Write scenes' dicts as a chunk; the file is there when it is complete.

    Returns:
        Its size and SHA-256.

    Raises:
        OSError: It cannot be written: the disk is full, say.
        StorageAway: Storage does not answer, or refuses.
    """
    buffer = io.BytesIO()  # torch's own writer hides what went wrong with a file
    torch.save([{key: _compact(value) for key, value in scene.items()} for scene in scenes], buffer)
    content = buffer.getbuffer()
    write_whole(path, content)
    return FileFacts(len(content), sha256=hashlib.sha256(content).hexdigest())


def save_index(folder: Location, index: Mapping[str, str]) -> None:
    """Write a split's index.json: scene key to file name."""
    write_whole(folder / "index.json", json.dumps(index, indent=0).encode())


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
