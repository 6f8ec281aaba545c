"""Converting many scenes to chunks in parallel, so that an interruption at any moment costs little.

Worker processes convert one scene each and leave it in ``.conversion`` of the output folder, first
the scene, then a small JSON that says it is complete. The first process packs finished scenes into
chunks in the order of the plan, so that the result does not depend on the number of workers or on
interruptions. Every file is written under a temporary name and renamed; ``index.json`` comes last.

Where the output is in object storage, ``.conversion`` is in a folder of this machine, beside the
cache, and :mod:`mvsplat.data.chunks.stored_conversion` says how any machine can go on.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from errno import ENOSPC
from pathlib import Path
from typing import Any

from mvsplat.data.chunks.conversion_workers import (
    ConversionJob,
    ConversionResult,
    ConversionWorkers,
    write_json,
)
from mvsplat.data.chunks.scene_conversion import ConversionSettings
from mvsplat.data.chunks.storage import (
    checksum,
    load_chunk,
    save_checksums,
    save_chunk,
    save_index,
)
from mvsplat.data.chunks.stored_conversion import StoredConversion
from mvsplat.data.scene import SPLITS, SceneSource, Split
from mvsplat.data.storage.addresses import Address, Location
from mvsplat.data.storage.cache import FileCache
from mvsplat.data.storage.facts import FileFacts
from mvsplat.machine import usable_cores

WORK_FOLDER = ".conversion"
REPORT = "conversion.json"
_FINISHED = ".conversion.finished"


class Conversion:
    """Converts jobs to chunks in a folder; what an interrupted one has left there is used.

    Args:
        sources: The sources, with the names to report them under.
        jobs: The scenes, in the order in which they are to be in the chunks.
        output: The folder to write train/ and test/ into; also in object storage.
        settings: What is done to each scene.
        chunk_bytes: A chunk is closed when its pictures have reached this size.
        workers: Number of processes; null is one a core, 0 or 1 works in this process.

    Raises:
        FileExistsError: The folder already holds other chunks.
        ValueError: An interrupted conversion of other data or with other options is there.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, SceneSource]],
        jobs: Sequence[ConversionJob],
        output: Location,
        settings: ConversionSettings,
        chunk_bytes: int = 100_000_000,
        workers: int | None = None,
    ) -> None:
        self.names = [name for name, _ in sources]
        self.sources = [source for _, source in sources]
        self.jobs = list(jobs)
        self.output = output
        self.settings = settings
        self.chunk_bytes = chunk_bytes
        self.workers = min(usable_cores() if workers is None else workers, len(self.jobs))
        self.stored = StoredConversion(output) if isinstance(output, Address) else None
        self._stored_results: dict[int, ConversionResult] = {}
        self.work = _folder_here(output) / WORK_FOLDER

    def run(self, progress: Any = None) -> list[ConversionResult]:
        """Do what is left to do, if anything; returns every job's result, in order.

        Args:
            progress: Called with (jobs done, jobs in all) after each.

        Raises:
            RuntimeError: A worker process died, or the disk is full; what is done is kept.
        """
        with self._locked():
            finished = self._finished()
            if finished is not None:
                return finished
            try:
                self._begin()
                results = self._convert(progress or (lambda done, total: None))
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "a worker process died (was memory short?); the same command goes on where "
                    "this one stopped, --workers 1 needs the least memory"
                ) from error
            except OSError as error:
                if error.errno != ENOSPC:
                    raise
                raise RuntimeError(
                    f"no space is left in {self.work.parent}; make some, and the same command goes "
                    "on where this one stopped"
                ) from error
            self._finish(results)
            return results

    def _begin(self) -> None:
        """Write the plan's digest, or check that the one that is there is this one's."""
        path = self.work / "plan.json"
        if self.stored is not None:
            interrupted = self.stored.plan()
            if interrupted is None or _read_json(path) != interrupted:
                shutil.rmtree(self.work, ignore_errors=True)  # of another conversion to this place
        else:
            interrupted = _read_json(path) if path.is_file() else None
        if interrupted is None and not path.is_file():
            self._check_empty()
        elif interrupted != self._digest():
            raise ValueError(
                f"{self.output} holds an interrupted conversion of other data or with other "
                f"options; repeat that command to finish it, or remove {self.output}"
            )
        write_json(path, self._digest())
        if self.stored is not None:
            self.stored.begin(self._digest())
            self.stored.read()
        else:
            self._remove_stale_files()

    def _check_empty(self) -> None:
        for split in SPLITS:
            folder = self.output / split
            if _has_files(folder):
                raise FileExistsError(
                    f"{folder} is not empty; choose another --output, or remove it"
                )

    def _remove_stale_files(self) -> None:
        """What an interrupted process may have left under temporary names."""
        for split in SPLITS:
            folder = self.output / split
            for stale in folder.glob(".*.tmp*") if isinstance(folder, Path) else ():
                stale.unlink(missing_ok=True)

    def _digest(self) -> str:
        """What is converted and how, in a few letters."""
        plan = [
            self.names,
            [list(job) for job in self.jobs],
            asdict(self.settings),
            self.chunk_bytes,
        ]
        return hashlib.sha256(json.dumps(plan).encode()).hexdigest()[:16]

    def _finished(self) -> list[ConversionResult] | None:
        """The results, if just this has been converted and nothing is left to do."""
        shutil.rmtree(self.work.with_name(_FINISHED), ignore_errors=True)
        report = _read_json(self.output / REPORT)
        if report is None or report.get("plan") != self._digest():
            return None
        if self.stored is not None:  # the report is written when all else is there
            self._clear()
        elif self.work.is_dir():
            return None
        return [ConversionResult(**entry) for entry in [*report["converted"], *report["left_out"]]]

    def _convert(self, progress: Any) -> list[ConversionResult]:
        """Convert what has no result yet, and pack what has, in order."""
        results: list[ConversionResult] = []
        self._stored_results = {} if self.stored is None else self.stored.results()
        packers = {split: _Packer(self, split) for split in SPLITS}
        with ConversionWorkers(self.sources, self.settings, self.workers) as workers:
            ahead: list[Future | ConversionResult] = []
            # Some scenes ahead of the packing: enough to keep the workers busy, but little disk.
            window = 4 * max(self.workers, 1)
            for number in range(len(self.jobs)):
                while len(ahead) < window and number + len(ahead) < len(self.jobs):
                    ahead.append(self._start(number + len(ahead), workers))
                started = ahead.pop(0)
                result = started.result() if isinstance(started, Future) else started
                results.append(result)
                if result.reason is None:
                    packers[result.split].add(number, result)
                progress(len(results), len(self.jobs))
        for packer in packers.values():
            packer.close()
        return results

    def _start(self, number: int, workers: "ConversionWorkers") -> Future | ConversionResult:
        """A job's result, if it is there from before, or its start."""
        if number in self._stored_results:
            return self._stored_results[number]
        path = self.work / f"{number:06d}.json"
        if path.is_file():
            try:
                return ConversionResult(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError):
                pass  # another version's: do it again
        job = self.jobs[number]
        return workers.start(job, self.names[job.source], path)

    def _finish(self, results: Sequence[ConversionResult]) -> None:
        written = [result for result in results if result.reason is None]
        report = {
            "plan": self._digest(),
            "settings": asdict(self.settings),
            "scenes": len(written),
            "frames": sum(result.frames for result in written),
            "left_out": [
                {"key": r.key, "split": r.split, "source": r.source, "reason": r.reason}
                for r in results
                if r.reason is not None
            ],
            "converted": [
                {name: value for name, value in asdict(r).items() if name != "reason"}
                for r in written
            ],
        }
        write_json(self.output / REPORT, report)
        self._clear()

    def _clear(self) -> None:
        """Remove what only an unfinished conversion needs."""
        if self.stored is not None:
            self.stored.clear()
            if not self.work.is_dir():
                return
        # Renamed first: a work folder that is half gone would look like another conversion's.
        finished = self.work.with_name(_FINISHED)
        shutil.rmtree(finished, ignore_errors=True)
        self.work.rename(finished)
        shutil.rmtree(finished)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self.work.parent.mkdir(parents=True, exist_ok=True)
        path = self.work.with_name(".conversion.lock")
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(f"another process is converting to {self.output}") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()


def _folder_here(output: Location) -> Path:
    """The folder of this machine that is worked in."""
    if isinstance(output, Path):
        return output
    name = hashlib.sha256(str(output).encode()).hexdigest()[:16]
    return FileCache().place.with_name("conversions") / name


def _has_files(folder: Location) -> bool:
    if isinstance(folder, Path):
        return folder.is_dir() and any(folder.iterdir())
    return folder.is_dir()


def _read_json(path: Location) -> Any:
    """What a file of ours holds; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


class _Packer:
    """Packs finished scenes of a split into chunks, in order."""

    def __init__(self, conversion: Conversion, split: Split) -> None:
        self.split = split
        self.folder = conversion.output / split
        self.stored = conversion.stored
        self.work = conversion.work
        self.chunk_bytes = conversion.chunk_bytes
        self.index: dict[str, str] = {}
        self.checksums: dict[str, FileFacts] = {}
        self.waiting: list[tuple[int, ConversionResult]] = []

    def add(self, number: int, result: ConversionResult) -> None:
        self.waiting.append((number, result))
        if sum(result.size for _, result in self.waiting) >= self.chunk_bytes:
            self._pack()

    def close(self) -> None:
        """Pack the rest, write the index."""
        if self.waiting:
            self._pack()
        if self.index:
            save_checksums(self.folder, self.checksums)
            save_index(self.folder, self.index)

    def _pack(self) -> None:
        name = f"{len(self.checksums):06d}.torch"
        scenes = [self.work / f"{number:06d}.torch" for number, _ in self.waiting]
        self.checksums[name] = self._packed(name) or self._write(name, scenes)
        for path in scenes:
            path.unlink(missing_ok=True)
        self.index |= {result.key: name for _, result in self.waiting}
        self.waiting = []

    def _packed(self, name: str) -> FileFacts | None:
        """A chunk's checksum, if it is complete from before."""
        if self.stored is not None:
            return self.stored.checksum(self.split, name)
        path = self.folder / name
        return checksum(path) if isinstance(path, Path) and path.is_file() else None

    def _write(self, name: str, scenes: Sequence[Path]) -> FileFacts:
        entries = [entry for path in scenes for entry in load_chunk(path).values()]
        facts = save_chunk(self.folder / name, entries)
        if self.stored is not None:
            self.stored.add(self.split, name, facts, dict(self.waiting))
        return facts
