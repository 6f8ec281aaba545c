"""``convert``: data of any kind as chunks to train and test on."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mvsplat.cli.errors import CommandParser
from mvsplat.data.chunks.conversion import REPORT, Conversion
from mvsplat.data.chunks.conversion_workers import ConversionJob, ConversionResult
from mvsplat.data.chunks.scene_conversion import ConversionSettings
from mvsplat.data.chunks.storage import chunk_paths
from mvsplat.data.left_out import LeftOut, describe_left_out
from mvsplat.data.readers.opening import Format, keys_or_none, open_scenes, scenes_for
from mvsplat.data.scene import SPLITS, SceneSource, Split
from mvsplat.data.storage.addresses import Location, location
from mvsplat.progress import counting

_SHOWN = 5


@dataclass(frozen=True)
class ConvertOptions:
    """Where the scenes come from and go to.

    Args:
        output: The folder to write train/ and test/ into; also in object storage
            (s3://bucket/folder), where any machine can go on after an interruption.
        format: What the sources are: a reader's name (chunks, transforms, colmap, dtu,
            realestate10k, polycam ...) or the import path of your own; auto looks at each.
        split: Write to this split alone: the sources' scenes of it or, of sources without it, all;
            null keeps the sources' own splits, and test for single scenes.
        test_every: Of the scenes that belong to no split, every N-th to test, the others to train.
        chunk_mb: Megabytes of pictures after which a chunk is closed.
        workers: Processes that convert; null is one a core.
    """

    output: str
    format: Format = "auto"
    split: Literal["train", "test"] | None = None
    test_every: int | None = None
    chunk_mb: float = 100.0
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.test_every is not None and self.test_every < 1:
            raise ValueError(f"test_every is {self.test_every}; it must be at least 1")
        if self.test_every is not None and self.split is not None:
            raise ValueError("split and test_every exclude each other; give one of them")
        if self.chunk_mb <= 0:
            raise ValueError(f"chunk_mb is {self.chunk_mb}; it must be positive")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers is {self.workers}; it must not be negative")


def main(argv: list[str]) -> None:
    """Convert the sources and say what became of them."""
    parser = CommandParser(
        prog="mvsplat convert",
        description="Write scenes of any kind (COLMAP models, transforms.json, DTU, RealEstate10K "
        "camera files, exports of capture apps, chunks, folders of these) as chunks to train and "
        "test on. The same command goes on after an interruption.",
    )
    parser.add_argument("sources", nargs="+", type=str, help="Folders or files of scenes.")
    options_names = parser.add_class_arguments(ConvertOptions, as_group=False)
    parser.add_class_arguments(ConversionSettings, as_group=False)
    arguments = parser.parse_args(argv).as_dict()
    paths = arguments.pop("sources")
    options = ConvertOptions(**{name: arguments.pop(name) for name in options_names})
    convert(paths, options, ConversionSettings(**arguments))


def convert(
    paths: Sequence[str], options: ConvertOptions, settings: ConversionSettings
) -> list[ConversionResult]:
    """Convert what is at the paths, with a progress bar and a report.

    Raises:
        FileNotFoundError: There is nothing at a path.
        ValueError: A path holds no scenes, two scenes have one key, or none could be converted.
    """
    sources = [(path, open_scenes(path, options.format)) for path in paths]
    for _, source in sources:
        source.prepare()
    conversion = Conversion(
        sources,
        plan(sources, options.split, options.test_every),
        location(options.output),
        settings,
        round(options.chunk_mb * 1e6),
        options.workers,
    )
    total = len(conversion.jobs)
    try:
        with counting("Converting", total) as update:
            results = conversion.run(lambda done, _: update(done, total))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    _report(results, location(options.output))
    if all(result.reason is not None for result in results):
        raise ValueError(
            f"none of the {len(results)} scenes could be converted: {results[0].reason}"
        )
    return results


def plan(
    sources: Sequence[tuple[str, SceneSource]], split: Split | None, test_every: int | None
) -> list[ConversionJob]:
    """The scenes to convert, in order.

    Raises:
        ValueError: A source has no scenes, or two scenes have the same key.
    """
    jobs: list[ConversionJob] = []
    for number, (path, source) in enumerate(sources):
        if split is not None:
            chosen = [(theirs, key, split) for theirs, key in scenes_for(source, split)]
        else:
            chosen = [
                (theirs, key, theirs) for theirs in SPLITS for key in keys_or_none(source, theirs)
            ]
        if not chosen:
            raise ValueError(f"{path} has no scenes{f' of the {split} split' if split else ''}")
        jobs += [ConversionJob(number, theirs, key, new, key) for theirs, key, new in chosen]
    if test_every is not None:
        jobs = _hold_out(jobs, sources, test_every)
    return _with_unique_keys(jobs, sources)


def _hold_out(
    jobs: list[ConversionJob], sources: Sequence[tuple[str, SceneSource]], test_every: int
) -> list[ConversionJob]:
    """Every N-th scene of the sources without a train split to test, the others to train."""
    without = {
        number for number, (_, source) in enumerate(sources) if not keys_or_none(source, "train")
    }
    result: list[ConversionJob] = []
    seen = 0
    for job in jobs:
        if job.source in without:
            job = job._replace(new_split="test" if seen % test_every == 0 else "train")
            seen += 1
        result.append(job)
    return result


def _with_unique_keys(
    jobs: list[ConversionJob], sources: Sequence[tuple[str, SceneSource]]
) -> list[ConversionJob]:
    """Jobs whose new keys differ: where two are alike, with the names of their folders in front."""
    counts = Counter(job.new_key for job in jobs)
    renamed = []
    for job in jobs:
        if counts[job.new_key] > 1:
            place = location(sources[job.source][0])
            folder = place.resolve() if isinstance(place, Path) else place
            name = folder.parent.name if folder.name == job.key else folder.name
            job = job._replace(new_key=f"{name}/{job.new_key}")
        renamed.append(job)
    twice = [key for key, count in Counter(job.new_key for job in renamed).items() if count > 1]
    if twice:
        places = {sources[job.source][0] for job in renamed if job.new_key == twice[0]}
        raise ValueError(
            f"two scenes are called {twice[0]!r}, in {' and '.join(sorted(places))}; convert them "
            "to different folders, or rename one"
        )
    return renamed


def _report(results: Sequence[ConversionResult], output: Location) -> None:
    """What was written and what was left out, on the console."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("split", "scenes", "frames", "megabytes", "chunks")
    for split in SPLITS:
        done = [r for r in results if r.reason is None and r.split == split]
        if done:
            chunks = len(chunk_paths(output / split))
            megabytes = sum(result.size for result in done) / 1e6
            frames = sum(result.frames for result in done)
            table.add_row(split, f"{len(done)}", f"{frames}", f"{megabytes:.1f}", f"{chunks}")
    if table.rows:
        console.print(table)
    guessed = [result for result in results if result.bounds_from == "cameras"]
    if guessed:
        first = guessed[0]
        console.print(
            f"depth bounds of {len(guessed)} scenes are guessed from the cameras alone, as their "
            f"pictures do not match ({first.key}: {first.near:.3g} to {first.far:.3g}); "
            "--near and --far give them",
            markup=False,
            soft_wrap=True,
        )
    for line in _left_out(results):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"report: {output / REPORT}", markup=False, soft_wrap=True)


def _left_out(results: Sequence[ConversionResult]) -> list[str]:
    lines = []
    scenes = [result for result in results if result.reason is not None]
    if scenes:
        lines.append(f"left out {len(scenes)} of {len(results)} scenes:")
        lines += [f"  {result.key}: {result.reason}" for result in scenes[:_SHOWN]]
        lines += ["  ..."] if len(scenes) > _SHOWN else []
    frames = LeftOut()
    for result in results:
        for reason, names in (result.left_out_frames or {}).items():
            frames.add(reason, *(f"{result.key}: {name}" for name in names))
    if frames:
        count = sum(map(len, frames.values()))
        lines.append(f"left out {count} frames: {describe_left_out(frames)}")
    return lines
