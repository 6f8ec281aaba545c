"""``verify``: check a converted or downloaded data set."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvsplat.cli.errors import CommandParser
from mvsplat.data.chunks.storage import CHECKSUMS
from mvsplat.data.chunks.verification import (
    Pictures,
    SplitFacts,
    rebuild_index,
    split_folders,
    verify,
)
from mvsplat.data.storage.addresses import location
from mvsplat.files import replacing
from mvsplat.progress import counting

_SHOWN = 20


@dataclass(frozen=True)
class VerifyOptions:
    """What to check.

    Args:
        folder: A data set's folder, which holds train/ and test/; or one of these. It may be in
            object storage (s3://bucket/folder).
        pictures: Which pictures of a scene to decode: all, the first, or none.
        rebuild_index: Write an index.json of every scene that can be read, in place of the present
            one.
        report: A JSON file to write everything to that was found.
        workers: Processes that check; null is one a core.
        cameras: Scenes of train/ and of test/ whose cameras are compared with their pictures, to
            find inverted matrices, other programs' axes and the like; takes a second or two a
            scene. 0 compares none, and so does pictures none.
    """

    folder: str
    pictures: Pictures = "all"
    rebuild_index: bool = False
    report: str | None = None
    workers: int | None = None
    cameras: int = 3

    def __post_init__(self) -> None:
        if self.cameras < 0:
            raise ValueError(f"cameras is {self.cameras}; expected a number of scenes, or 0")


def main(argv: list[str]) -> None:
    """Check, print a table and what is wrong; the exit code is 1 if something is."""
    parser = CommandParser(
        prog="mvsplat verify",
        description="Check a folder of chunks: every chunk can be read, the index is right, "
        "pictures can be decoded, cameras make sense and fit the pictures. The exit code is 1 if "
        "something is wrong.",
    )
    parser.add_argument("folder", type=str, help="A data set's folder, or train/ or test/ of it.")
    parser.add_argument(
        "--rebuild_index",
        action="store_true",
        help="Write an index.json of every scene that can be read, in place of the present one.",
    )
    parser.add_class_arguments(VerifyOptions, as_group=False, skip={"folder", "rebuild_index"})
    options = VerifyOptions(**parser.parse_args(argv).as_dict())
    splits = run(options)
    if any(split.all_problems for split in splits):
        sys.exit(1)


def run(options: VerifyOptions) -> list[SplitFacts]:
    """Check with a progress bar, and report.

    Raises:
        FileNotFoundError: There are no chunks.
        ValueError: The index cannot be rebuilt.
    """
    folders = split_folders(location(options.folder))
    cameras = 0 if options.pictures == "none" else options.cameras
    with counting("Checking") as update:
        splits = verify(folders, options.pictures, options.workers, update, cameras)
    if options.rebuild_index:
        splits = [_with_new_index(split) for split in splits]
    _print(splits)
    if options.report is not None:
        _write(Path(options.report), splits)
    return splits


def _with_new_index(split: SplitFacts) -> SplitFacts:
    """The split without its index's problems, which are mended."""
    count = rebuild_index(split)
    print(f"{split.folder / 'index.json'}: written, {count} scenes")
    mended = [str(split.folder / name) for name in ("index.json", CHECKSUMS)]
    problems = [p for p in split.problems if not any(name in p for name in mended)]
    return SplitFacts(split.folder, split.chunks, problems)


def _print(splits: Sequence[SplitFacts]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("folder", "chunks", "scenes", "with bounds", "frames", "pictures", "problems")
    for split in splits:
        scenes = [scene for chunk in split.chunks for scene in chunk.scenes]
        sizes = Counter(scene.size for scene in scenes if scene.size is not None)
        shown = ", ".join(f"{w}x{h}" for (w, h), _ in sizes.most_common(2))
        table.add_row(
            split.folder.name,
            str(len(split.chunks)),
            str(len(scenes)),
            str(sum(scene.has_bounds for scene in scenes)),
            str(sum(scene.frames for scene in scenes)),
            f"{shown}{', ...' if len(sizes) > 2 else ''}",
            str(len(split.all_problems)),
        )
    console.print(table)
    if compared := _compared(splits):
        console.print(compared, soft_wrap=True)
    problems = [problem for split in splits for problem in split.all_problems]
    for problem in problems[:_SHOWN]:
        console.print(problem, markup=False, soft_wrap=True)
    if len(problems) > _SHOWN:
        console.print(f"... and {len(problems) - _SHOWN} more; --report FILE has all")
    if not problems:
        console.print("nothing is wrong")


def _compared(splits: Sequence[SplitFacts]) -> str | None:
    """What comparing cameras with pictures came to, in words."""
    scenes = [scene for split in splits for chunk in split.chunks for scene in chunk.scenes]
    fits = [scene.camera_fit for scene in scenes if scene.camera_fit is not None]
    if not fits:
        return None
    shares = [f"{fit.share:.0%}" for fit in sorted(fits) if fit.tells]
    silent = _scenes(len(fits) - len(shares))
    nothing = f"those of {silent} could not be: too little in them matches or moves"
    if not shares:
        return f"cameras were to be compared with pictures; {nothing}"
    span = " to ".join(dict.fromkeys((shares[0], shares[-1])))
    return (
        f"cameras were compared with the pictures of {_scenes(len(shares))}: {span} of matching "
        f"patches are where the cameras say{f'; {nothing}' if len(shares) < len(fits) else ''}"
    )


def _scenes(count: int) -> str:
    return f"{count} scene{'' if count == 1 else 's'}"


def _write(path: Path, splits: Sequence[SplitFacts]) -> None:
    content = {
        str(split.folder): {
            "problems": split.all_problems,
            "chunks": {
                chunk.path.name: [
                    {
                        "key": scene.key,
                        "frames": scene.frames,
                        "size": scene.size,
                        "camera_fit": None if scene.camera_fit is None else scene.camera_fit.share,
                    }
                    for scene in chunk.scenes
                ]
                for chunk in split.chunks
            },
        }
        for split in splits
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
