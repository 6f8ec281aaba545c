"""Converting many scenes to chunks in parallel, so that an interruption at any moment costs little.

Worker processes convert one scene each and leave it in ``.conversion`` of the output folder, first
the scene, then a small JSON that says it is complete. The first process packs finished scenes into
chunks in the order of the plan, so that the result does not depend on the number of workers or on
interruptions. Every file is written under a temporary name and renamed; ``index.json`` comes last.
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
from mvsplat.data.chunks.storage import load_chunk, save_chunk, save_index
from mvsplat.data.scene import SPLITS, SceneSource, Split
from mvsplat.machine import usable_cores

WORK_FOLDER = ".conversion"
REPORT = "conversion.json"
_FINISHED = ".conversion.finished"


class Conversion:
    """Converts jobs to chunks in a folder; what an interrupted one has left there is used.

    Args:
        sources: The sources, with the names to report them under.
        jobs: The scenes, in the order in which they are to be in the chunks.
        output: The folder to write train/ and test/ into.
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
        output: Path,
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
        self.work = output / WORK_FOLDER

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
            self._begin()
            try:
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
                    f"no space is left in {self.output}; make some, and the same command goes on "
                    "where this one stopped"
                ) from error
            self._finish(results)
            return results

    def _begin(self) -> None:
        """Write the plan's digest, or check that the one that is there is this one's."""
        path = self.work / "plan.json"
        if path.is_file():
            if _read_json(path) != self._digest():
                raise ValueError(
                    f"{self.output} holds an interrupted conversion of other data or with other "
                    f"options; repeat that command to finish it, or remove {self.output}"
                )
        else:
            for split in SPLITS:
                folder = self.output / split
                if folder.is_dir() and any(folder.iterdir()):
                    raise FileExistsError(
                        f"{folder} is not empty; choose another --output, or remove it"
                    )
            write_json(path, self._digest())
        for split in SPLITS:
            for stale in (self.output / split).glob(".*.tmp*"):
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
        if self.work.is_dir() or report is None or report.get("plan") != self._digest():
            return None
        return [ConversionResult(**entry) for entry in [*report["converted"], *report["left_out"]]]

    def _convert(self, progress: Any) -> list[ConversionResult]:
        """Convert what has no result yet, and pack what has, in order."""
        results: list[ConversionResult] = []
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
        # Renamed first: a work folder that is half gone would look like another conversion's.
        finished = self.work.with_name(_FINISHED)
        shutil.rmtree(finished, ignore_errors=True)
        self.work.rename(finished)
        shutil.rmtree(finished)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / ".conversion.lock"
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


def _read_json(path: Path) -> Any:
    """What a file of ours holds; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


class _Packer:
    """Packs finished scenes of a split into chunks, in order."""

    def __init__(self, conversion: Conversion, split: Split) -> None:
        self.folder = conversion.output / split
        self.work = conversion.work
        self.chunk_bytes = conversion.chunk_bytes
        self.index: dict[str, str] = {}
        self.waiting: list[tuple[int, ConversionResult]] = []
        self.chunks = 0

    def add(self, number: int, result: ConversionResult) -> None:
        self.waiting.append((number, result))
        if sum(result.size for _, result in self.waiting) >= self.chunk_bytes:
            self._pack()

    def close(self) -> None:
        """Pack the rest, write the index."""
        if self.waiting:
            self._pack()
        if self.index:
            save_index(self.folder, self.index)

    def _pack(self) -> None:
        name = f"{self.chunks:06d}.torch"
        scenes = [self.work / f"{number:06d}.torch" for number, _ in self.waiting]
        if not (self.folder / name).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            save_chunk(
                self.folder / name, [e for path in scenes for e in load_chunk(path).values()]
            )
        for path in scenes:
            path.unlink(missing_ok=True)
        self.index |= {result.key: name for _, result in self.waiting}
        self.waiting = []
        self.chunks += 1
