"""Folders of RealEstate10K-style chunks: reading scenes lazily and writing chunks atomically.

A data set is a folder with ``train/`` and ``test/``, each holding ``.torch`` files (about 100 MB,
a list of scenes) and an ``index.json`` from scene key to file name. A scene is a dict:

* ``key``: its name; ``url`` may be there and is not read, ``timestamps`` [n] name the frames;
* ``cameras`` [n, 18]: fx, fy, cx, cy normalised by width and height, two zeros, then the 3x4
  world-to-camera matrix row by row;
* ``images``: one uint8 tensor a frame, the bytes of a picture's file (JPEG as a rule);
* optional, extensions of ours: ``near`` and ``far`` (floats); ``depths``: one uint8 tensor a frame,
  the bytes of a 16-bit grey PNG of round(65535 * near / depth), 0 where there is no depth;
  ``names``: the frames' file names; ``points`` [p, 3]: sparse points in world space.

``checksums.json`` beside them has each chunk's size and SHA-256, which copies from object storage
are checked by; it may be missing.

Chunks are pickles: they are only ever loaded with ``weights_only=True``, so nothing in them runs.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvsplat.data.chunks.fields import (
    decode_depth,
    decode_picture,
    encode_depth,
    pack_cameras,
    unpack_cameras,
)
from mvsplat.data.chunks.storage import (
    build_index,
    facts_of_chunks,
    load_chunk,
    read_index,
    save_checksums,
    save_chunk,
    save_index,
)
from mvsplat.data.faults import DECODING_ERRORS
from mvsplat.data.scene import Scene, SceneSource, Split
from mvsplat.data.storage.addresses import Address, Location, location
from mvsplat.data.storage.cache import entry_name, touch
from mvsplat.data.storage.facts import FileFacts
from mvsplat.data.storage.prefetching import Prefetcher
from mvsplat.data.untrusted import is_file

__all__ = [
    "ChunkScene",
    "ChunkScenes",
    "encode_depth",
    "load_chunk",
    "pack_cameras",
    "write_chunks",
]


class ChunkScenes(SceneSource):
    """Scenes from RealEstate10K-style chunks (RE10K, ACID, DTU, DL3DV, generated, converted).

    Args:
        roots: The folder that holds train/ and test/ with .torch chunks and an index.json each, or
            several such folders, whose scenes are put together. A folder may lack a split that
            another one has. It may be in object storage (s3://bucket/folder, gs://, hf://,
            https:// ...; drivers such as s3fs are yours to install): then chunks are kept in
            data.cache.
        open_chunks: How many chunks each loader worker keeps open (memory-mapped, so little
            memory each).
    """

    def __init__(self, roots: str | list[str] = "datasets/re10k", open_chunks: int = 8) -> None:
        if not roots:
            raise ValueError("roots is empty; name at least one folder that holds train/ and test/")
        if open_chunks < 1:
            raise ValueError(f"open_chunks is {open_chunks}; it must be at least 1")
        self.roots = [roots] if isinstance(roots, str) else list(roots)
        self.open_chunks = open_chunks
        self._indices: dict[str, dict[str, Location]] = {}
        self._facts: dict[Address, FileFacts] = {}
        self._chunks: OrderedDict[Location, dict[str, dict]] = OrderedDict()
        self._prefetcher: Prefetcher | None = None

    def keys(self, split: Split) -> Sequence[str]:
        return list(self._index(split))

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        groups: dict[Location, list[str]] = {}
        for key, path in self._index(split).items():
            groups.setdefault(path, []).append(key)
        return list(groups.values())

    def scene(self, split: Split, key: str) -> "ChunkScene":
        index = self._index(split)
        if key not in index:
            where = ", ".join(str(folder) for folder in self._folders(split))
            raise ValueError(f"no scene {key!r} in the index.json of {where}")
        path = index[key]
        if isinstance(path, Path) and not path.is_file():
            raise FileNotFoundError(f"{path} is named by index.json, but there is no such file")
        chunk = self._chunk(path)
        if key not in chunk:
            raise ValueError(
                f"{index[key]} has no scene {key!r}, though index.json beside it says so; "
                "the index belongs to other chunks: fetch or rebuild it"
            )
        return ChunkScene(chunk[key], index[key])

    def expect(self, split: Split, keys: Iterable[str]) -> None:
        index = self._index(split)
        if not self._facts:
            return
        if self._prefetcher is None or self._prefetcher.process != os.getpid():
            self._prefetcher = Prefetcher(self.cache, self._facts)
        self._prefetcher.expect(index[key] for key in keys)

    def _folders(self, split: Split) -> list[Location]:
        return [location(root, self.cache.patience) / split for root in self.roots]

    def _index(self, split: Split) -> dict[str, Location]:
        """Scene key to chunk file, over all roots."""
        if split not in self._indices:
            folders = self._folders(split)
            present = [folder for folder in folders if folder.is_dir()]
            if not present:
                raise FileNotFoundError(
                    f"no {split} scenes: {' and '.join(map(str, folders))} is no folder; "
                    "the root must be the folder that holds train/ and test/"
                )
            merged: dict[str, Location] = {}
            for folder in present:
                for key, path in read_index(folder).items():
                    if key in merged:
                        raise ValueError(f"scene {key!r} is both in {merged[key]} and in {path}")
                    merged[key] = path
                if isinstance(folder, Address):
                    self._facts |= facts_of_chunks(folder)
            self._indices[split] = merged
        return self._indices[split]

    def _chunk(self, path: Location) -> dict[str, dict]:
        """The scenes of a chunk by key; the most recently used chunks stay open."""
        if path in self._chunks:
            self._chunks.move_to_end(path)
            if path in self._facts:
                touch(self.cache.place / entry_name(path, self._facts[path]))
        else:
            self._chunks[path] = self._load(path)
            if len(self._chunks) > self.open_chunks:
                self._chunks.popitem(last=False)
        return self._chunks[path]

    def _load(self, path: Location) -> dict[str, dict]:
        if not isinstance(path, Address):
            return load_chunk(path)
        if path not in self._facts:
            self._facts[path] = path.facts()
        soon = self._prefetcher.soon if self._prefetcher else ()
        return load_chunk(path, self.cache, self._facts[path], soon)

    def __getstate__(self) -> dict[str, Any]:
        # Open chunks stay behind when a source travels to a worker process.
        return {**self.__dict__, "_chunks": OrderedDict(), "_prefetcher": None}


class ChunkFiles(ChunkScenes):
    """Scenes of single chunk files, without an index.

    Args:
        files: The .torch files.
        split: The split their scenes are in.
        open_chunks: How many chunks each loader worker keeps open.
    """

    def __init__(self, files: list[str], split: Split = "test", open_chunks: int = 8) -> None:
        if not files:
            raise ValueError("files is empty; name at least one .torch file")
        self.files = [location(file) for file in files]
        super().__init__(sorted({str(file.parent) for file in self.files}), open_chunks)
        self.split = split

    def _index(self, split: Split) -> dict[str, Location]:
        if split != self.split:
            return {}
        if split not in self._indices:
            self._indices[split] = build_index(self.files)
        return self._indices[split]


class ChunkScene(Scene):
    """A scene of a chunk; pictures stay compressed until asked for.

    Args:
        entry: The scene's dict, as in the module's description.
        path: The chunk file, for messages.

    Raises:
        ValueError: An entry is missing, of the wrong kind or shape, or the cameras make no sense;
            names the file, the scene and the field.
    """

    def __init__(self, entry: dict[str, Any], path: str | Location) -> None:
        self.key = entry["key"]
        self.path = path
        self._images = self._frames(entry, "images")
        self._depths = self._frames(entry, "depths") if "depths" in entry else None
        self.near, self.far = self._bounds(entry)
        cameras = entry.get("cameras")
        if not isinstance(cameras, Tensor) or cameras.shape != (len(self._images), 18):
            found = tuple(cameras.shape) if isinstance(cameras, Tensor) else type(cameras).__name__
            raise self._error(f"cameras is {found}, expected [{len(self._images)}, 18] numbers")
        self.frame_names = self._names(entry)
        self.points = self._sparse_points(entry)
        try:
            self.extrinsics, self.intrinsics = unpack_cameras(cameras.float())
        except ValueError as error:
            raise self._error(str(error)) from error

    def image(self, index: int) -> Image.Image:
        try:
            image = decode_picture(self._images[index])
            return image if image.mode == "RGB" else image.convert("RGB")
        except DECODING_ERRORS as error:
            raise self._error(f"image {index} cannot be decoded ({error})") from error

    def encoded(self, index: int) -> bytes | None:
        data = self._images[index].numpy().tobytes()
        with Image.open(io.BytesIO(data)) as picture:
            usual = picture.format in ("JPEG", "PNG", "WEBP")
            plain = usual and picture.mode == "RGB" and "transparency" not in picture.info
        return data if plain else None

    def depth(self, index: int) -> np.ndarray | None:
        if self._depths is None or self.near is None:
            return None
        try:
            return decode_depth(self._depths[index], self.near)
        except DECODING_ERRORS as error:
            raise self._error(f"depth {index} cannot be decoded ({error})") from error

    def _frames(self, entry: dict[str, Any], field: str) -> list[Tensor]:
        frames = entry.get(field)
        if not isinstance(frames, (list, tuple)) or not frames:
            raise self._error(f"{field} is missing or empty, expected a list of uint8 tensors")
        for index, frame in enumerate(frames):
            # Strides could make a few bytes on disk a picture of terabytes.
            flat = isinstance(frame, Tensor) and frame.ndim == 1 and frame.stride() == (1,)
            if not flat or frame.dtype != torch.uint8:
                raise self._error(f"{field} {index} is no flat uint8 tensor of a picture's bytes")
        if field != "images" and len(frames) != len(self._images):
            raise self._error(f"{len(frames)} {field} for {len(self._images)} images")
        return list(frames)

    def _names(self, entry: dict[str, Any]) -> list[str] | None:
        """The frames' file names or time stamps; of the wrong number, they are of no use."""
        names, stamps = entry.get("names"), entry.get("timestamps")
        if isinstance(names, list) and len(names) == len(self._images):
            return [str(name) for name in names]
        if isinstance(stamps, Tensor) and stamps.shape == (len(self._images),):
            return [str(stamp) for stamp in stamps.tolist()]
        return None

    def _sparse_points(self, entry: dict[str, Any]) -> Tensor | None:
        points = entry.get("points")
        if points is None:
            return None
        if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != 3:
            raise self._error("points are no tensor of [p, 3] numbers")
        return points[points.isfinite().all(-1)].float()

    def _bounds(self, entry: dict[str, Any]) -> tuple[float | None, float | None]:
        near, far = entry.get("near"), entry.get("far")
        if near is None and far is None:
            if self._depths is not None:
                raise self._error("there are depths, but no near, which their scale depends on")
            return None, None
        if isinstance(near, (int, float)) and isinstance(far, (int, float)):
            if 0 < near < far < np.inf:
                return float(near), float(far)
        raise self._error(f"near is {near!r} and far is {far!r}, expected 0 < near < far")

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}, scene {self.key!r}: {problem}")


def write_chunks(
    folder: str | os.PathLike, scenes: Iterable[dict[str, Any]], chunk_bytes: int = 100_000_000
) -> dict[str, str]:
    """Write scenes as chunks and an index; a file has its final name only when it is complete.

    Args:
        folder: The split's folder (``.../train``), made if missing; also in object storage.
        scenes: Scenes as in the module's description; taken one at a time.
        chunk_bytes: A chunk is closed when its pictures have reached this size.

    Returns:
        The index: scene key to chunk file name.

    Raises:
        FileExistsError: The folder already has an index.json.
        ValueError: A scene is not as described, or two have the same key.
    """
    place = location(folder)
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    if is_file(place / "index.json"):
        raise FileExistsError(f"{folder} already holds chunks; remove it or choose another folder")
    index: dict[str, str] = {}
    checksums: dict[str, FileFacts] = {}
    for number, chunk in enumerate(_batched_by_size(scenes, chunk_bytes)):
        name = f"{number:06d}.torch"
        for scene in chunk:
            if scene["key"] in index:
                raise ValueError(f"two scenes have the key {scene['key']!r}")
            index[scene["key"]] = name
        checksums[name] = save_chunk(place / name, chunk)
    save_checksums(place, checksums)
    save_index(place, index)
    return index


def _batched_by_size(scenes: Iterable[dict], chunk_bytes: int) -> Iterator[list[dict]]:
    chunk: list[dict] = []
    size = 0
    for scene in scenes:
        ChunkScene(scene, "the scene to write")  # raises where it could not be read back
        chunk.append(scene)
        size += sum(len(frame) for frame in [*scene["images"], *scene.get("depths", [])])
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
