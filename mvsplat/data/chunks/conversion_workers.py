"""What each process of a conversion does: one scene at a time, each result written at once."""

import json
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mvsplat.data.chunks.scene_conversion import ConversionSettings, convert_scene
from mvsplat.data.chunks.storage import save_chunk
from mvsplat.data.scene import SceneSource, Split
from mvsplat.data.storage.addresses import Location, write_whole
from mvsplat.machine import exit_once


class ConversionJob(NamedTuple):
    """One scene to convert: its source's number, its split and key there, and those to write."""

    source: int
    split: Split
    key: str
    new_split: Split
    new_key: str


@dataclass(frozen=True)
class ConversionResult:
    """What became of a job: a scene in a chunk, or the reason why not."""

    key: str
    split: Split
    source: str
    frames: int = 0
    size: int = 0
    near: float | None = None
    far: float | None = None
    bounds_from: str | None = None
    left_out_frames: dict[str, list[str]] | None = None
    reason: str | None = None


class ConversionWorkers:
    """Processes that convert scenes, or this one, if one is enough."""

    def __init__(
        self, sources: Sequence[SceneSource], settings: ConversionSettings, count: int
    ) -> None:
        self.state = (list(sources), settings)
        self.pool: ProcessPoolExecutor | None = None
        if count > 1:
            # Spawned: a fork would copy locks that threads of this process (torch's) may hold.
            self.pool = ProcessPoolExecutor(
                count, get_context("spawn"), initializer=_begin_worker, initargs=self.state
            )

    def start(self, job: ConversionJob, source_name: str, path: Path) -> Future | ConversionResult:
        if self.pool is None:
            return _convert_and_write(self.state, job, source_name, path)
        return self.pool.submit(_convert_in_worker, job, source_name, path)

    def __enter__(self) -> "ConversionWorkers":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


_state: tuple[list[SceneSource], ConversionSettings] | None = None


def begin_worker() -> None:
    """One thread a process; and an end when the process that started this one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process to answer
    torch.set_num_threads(1)
    if (parent := parent_process()) is not None:
        exit_once(parent.join)  # or they would wait for work for ever


def _begin_worker(sources: list[SceneSource], settings: ConversionSettings) -> None:
    global _state
    _state = sources, settings
    begin_worker()


def _convert_in_worker(job: ConversionJob, source_name: str, path: Path) -> ConversionResult:
    assert _state is not None  # the initializer has run
    return _convert_and_write(_state, job, source_name, path)


def _convert_and_write(
    state: tuple[list[SceneSource], ConversionSettings],
    job: ConversionJob,
    source_name: str,
    path: Path,
) -> ConversionResult:
    """Convert a scene and leave it at ``path`` (.torch), then its result (.json)."""
    sources, settings = state
    about = {"key": job.new_key, "split": job.new_split, "source": source_name}
    try:
        scene = sources[job.source].scene(job.split, job.key)
        converted = convert_scene(scene, job.new_key, settings)
    except (ValueError, OSError) as error:
        result = ConversionResult(**about, reason=str(error)[:1000])  # type: ignore[arg-type]
    else:
        save_chunk(path.with_suffix(".torch"), [converted.entry])
        bounds = converted.bounds
        result = ConversionResult(
            **about,  # type: ignore[arg-type]
            frames=len(converted.entry["images"]),
            size=converted.size,
            near=None if bounds is None else bounds.near,
            far=None if bounds is None else bounds.far,
            bounds_from=None if bounds is None else bounds.origin,
            left_out_frames=converted.left_out,
        )
    write_json(path, asdict(result))
    return result


def write_json(path: Location, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode(errors="backslashreplace"))
