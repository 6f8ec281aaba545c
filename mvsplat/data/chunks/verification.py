"""Checking folders of chunks: every chunk and picture readable, cameras sane, the index right."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from mvsplat.data.chunks.camera_check import CameraFit, check_camera_fit
from mvsplat.data.chunks.chunk_scenes import ChunkScene
from mvsplat.data.chunks.conversion_workers import begin_worker
from mvsplat.data.chunks.storage import (
    CHECKSUMS,
    checksum,
    chunk_paths,
    load_chunk,
    read_checksums,
    read_index,
    save_checksums,
    save_index,
)
from mvsplat.data.scene import SPLITS
from mvsplat.data.storage.addresses import Location
from mvsplat.data.storage.facts import FileFacts
from mvsplat.machine import usable_cores

Pictures = Literal["all", "first", "none"]


@dataclass
class SceneFacts:
    """A scene that can be read."""

    key: str
    frames: int
    size: tuple[int, int] | None
    has_bounds: bool
    camera_fit: CameraFit | None = None


@dataclass
class ChunkFacts:
    """What is in a chunk, and what is wrong with it."""

    path: Location
    scenes: list[SceneFacts] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    checksum: FileFacts | None = None


@dataclass
class SplitFacts:
    """What is in a split's folder, and what is wrong with it as a whole."""

    folder: Location
    chunks: list[ChunkFacts]
    problems: list[str]

    @property
    def all_problems(self) -> list[str]:
        """Those of the chunks, too."""
        return [*self.problems, *(p for chunk in self.chunks for p in chunk.problems)]


def split_folders(root: Location) -> list[Location]:
    """The folders of chunks: train/ and test/ of a data set, or the folder itself.

    Raises:
        FileNotFoundError: There are no chunks.
    """
    found: list[Location] = [root / split for split in SPLITS if _has_chunks(root / split)]
    if not found and _has_chunks(root):
        found = [root]
    if not found:
        raise FileNotFoundError(f"{root} holds no .torch chunks, nor do train/ and test/ in it")
    return found


def verify(
    folders: Sequence[Location],
    pictures: Pictures = "all",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cameras: int = 3,
) -> list[SplitFacts]:
    """Check the chunks of split folders in parallel, then their indices.

    Args:
        folders: Folders of chunks.
        pictures: Which pictures of a scene to decode.
        workers: Number of processes; null is one a core.
        progress: Called with (chunks done, chunks in all) after each.
        cameras: Of how many scenes of a folder, spread over its chunks, cameras are compared with
            pictures; takes a second or two each.
    """
    paths = {folder: chunk_paths(folder) for folder in folders}
    jobs = [
        (path, pictures, compared[number])
        for files in paths.values()
        for compared in [_spread(cameras, len(files))]
        for number, path in enumerate(files)
    ]
    facts: dict[Location, ChunkFacts] = {}
    for done, chunk in enumerate(_checked(jobs, workers), 1):
        facts[chunk.path] = chunk
        progress(done, len(jobs))
    splits = [
        SplitFacts(
            folder,
            chunks := [facts[path] for path in files],
            [*_index_problems(folder, chunks), *_checksum_problems(folder, chunks)],
        )
        for folder, files in paths.items()
    ]
    _add_duplicates(splits)
    return splits


def check_chunk(path: Location, pictures: Pictures = "all", cameras: int = 0) -> ChunkFacts:
    """Read a chunk as training does: every scene's fields and cameras, and its pictures.

    Args:
        path: The chunk.
        pictures: Which pictures of a scene to decode.
        cameras: Of how many scenes cameras are compared with pictures.
    """
    facts = ChunkFacts(path)
    try:
        if isinstance(path, Path):
            facts.checksum = checksum(path)  # copies from storage are checked as they are fetched
        entries = load_chunk(path)
    except (ValueError, OSError) as error:
        facts.problems.append(str(error))
        return facts
    facts.keys = list(entries)
    compared = _spread(cameras, len(entries))
    for number, entry in enumerate(entries.values()):
        try:
            scene = ChunkScene(entry, path)
            facts.scenes.append(_check_scene(scene, pictures))
            if compared[number]:
                fit = facts.scenes[-1].camera_fit = check_camera_fit(scene)
                if fit.problem is not None:
                    facts.problems.append(f"{path}, scene {scene.key!r}: {fit.problem}")
        except ValueError as error:
            facts.problems.append(str(error))
    if not entries:
        facts.problems.append(f"{path} holds no scenes")
    return facts


def rebuild_index(split: SplitFacts) -> int:
    """Write an index.json of the scenes that can be read; returns their number.

    Raises:
        ValueError: A key is in two chunks, so that no index can name both.
    """
    index: dict[str, str] = {}
    for chunk in split.chunks:
        for scene in chunk.scenes:
            if scene.key in index:
                raise ValueError(
                    f"scene {scene.key!r} is both in {split.folder / index[scene.key]} and in "
                    f"{chunk.path}; remove or rename one of these chunks"
                )
            index[scene.key] = chunk.path.name
    save_index(split.folder, index)
    _renew_checksums(split)
    return len(index)


def _renew_checksums(split: SplitFacts) -> None:
    """Write the checksums of chunks that are here; copies of storage's were checked by theirs."""
    found = {chunk.path.name: chunk.checksum for chunk in split.chunks}
    known = {name: sums for name, sums in found.items() if sums is not None}
    if known:
        save_checksums(split.folder, known)


def _check_scene(scene: ChunkScene, pictures: Pictures) -> SceneFacts:
    indices = {"all": range(len(scene)), "first": range(1), "none": range(0)}[pictures]
    sizes = set()
    for index in indices:
        sizes.add(scene.image(index).size)
        depth = scene.depth(index)
        if depth is not None and depth.shape[::-1] not in sizes:
            raise ValueError(
                f"{scene.path}, scene {scene.key!r}: depth {index} is {depth.shape[1]} x "
                f"{depth.shape[0]}, its picture is not"
            )
    return SceneFacts(
        scene.key, len(scene), sizes.pop() if len(sizes) == 1 else None, scene.near is not None
    )


def _index_problems(folder: Location, chunks: Sequence[ChunkFacts]) -> list[str]:
    """Where index.json and the chunks disagree."""
    try:
        index = read_index(folder)
    except (ValueError, OSError) as error:
        return [str(error)]
    there = {(key, chunk.path) for chunk in chunks for key in chunk.keys}
    readable = {chunk.path for chunk in chunks if chunk.keys}
    files = {chunk.path for chunk in chunks}
    problems = [
        f"{folder / 'index.json'} names {path.name}, which is not there"
        for path in sorted(set(index.values()) - files)
    ]
    problems += [
        f"{folder / 'index.json'} says that scene {key!r} is in {path.name}, but it is not"
        for key, path in index.items()
        if path in readable and (key, path) not in there
    ]
    problems += [
        f"{folder / 'index.json'} lacks scene {key!r} of {path.name}"
        for key, path in sorted(there)
        if index.get(key) != path
    ]
    return problems


def _checksum_problems(folder: Location, chunks: Sequence[ChunkFacts]) -> list[str]:
    """Where checksums.json and the chunks disagree."""
    try:
        expected = read_checksums(folder)
    except (ValueError, OSError) as error:
        return [str(error)]
    return [
        f"{chunk.path} is another file than {folder / CHECKSUMS} says (--rebuild_index writes that "
        "again)"
        for chunk in chunks
        if chunk.checksum is not None
        and expected.get(chunk.path.name, chunk.checksum) != chunk.checksum
    ]


def _add_duplicates(splits: Iterable[SplitFacts]) -> None:
    seen: dict[str, Location] = {}
    for split in splits:
        for chunk in split.chunks:
            for key in chunk.keys:
                if key in seen:
                    split.problems.append(
                        f"scene {key!r} is both in {seen[key]} and in {chunk.path}"
                    )
                seen.setdefault(key, chunk.path)


def _spread(count: int, places: int) -> Counter[int]:
    """How many of ``count`` things each of some places gets, evenly."""
    return Counter(number * places // count for number in range(count) if places)


def _checked(
    jobs: Sequence[tuple[Location, Pictures, int]], workers: int | None
) -> Iterable[ChunkFacts]:
    count = min(usable_cores() if workers is None else workers, len(jobs))
    if count <= 1:
        yield from (check_chunk(*job) for job in jobs)
        return
    # Spawned for the same reason as the workers of a conversion.
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=begin_worker)
    try:
        yield from pool.map(check_chunk, *zip(*jobs, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _has_chunks(folder: Location) -> bool:
    return folder.is_dir() and bool(chunk_paths(folder))
