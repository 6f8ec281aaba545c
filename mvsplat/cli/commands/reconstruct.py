"""``reconstruct``: a folder of photographs, a video or data with cameras becomes a scene."""

import sys
from pathlib import Path

from mvsplat.cli.errors import CommandParser
from mvsplat.machine import keep_freed_memory
from mvsplat.reconstruction import output as names
from mvsplat.reconstruction.output import OutputFolder
from mvsplat.reconstruction.pipeline import reconstruct
from mvsplat.reconstruction.reconstructed import average, in_words
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.saving import save
from mvsplat.reconstruction.stages import ShownStages

_MOST_LINES = 8

EPILOG = """\
The folder gets scene.ply (opens in any 3DGS viewer), cameras.json, a video, depth maps, the photos
as the model saw them, and report.html with scores, warnings and times; "mvsplat view DIR" shows it.
"""


def main(argv: list[str]) -> None:
    """Reconstruct what the arguments name, write it, and offer to show it."""
    options = _parser().parse_args(argv).as_dict()
    folder, overwrite, show = (options.pop(name) for name in ("output", "overwrite", "open"))
    output = _output(folder, overwrite, options["photos"])
    keep_freed_memory()
    try:
        with ShownStages() as stages:
            scene = reconstruct(**options, stages=stages)
            save(scene, output)
    except KeyboardInterrupt:
        print(f"interrupted: {_left_behind(output.path)}", file=sys.stderr)
        sys.exit(130)
    _summarize(scene, output.path)
    if show or _asked(f"Show it in the browser? (later: mvsplat view {output.path})"):
        from mvsplat.cli.commands.view import main as view

        view([str(output.path), "--open"])


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="mvsplat reconstruct",
        description="Make a 3-D scene from a folder of photos, a video, or data with cameras.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "photos",
        type=str,
        help="A folder of photos, a video, or data with cameras (COLMAP, transforms.json ...).",
    )
    parser.add_argument("--output", type=str, required=True, help="The folder to write.")
    parser.add_function_arguments(reconstruct, as_group=False, skip={"photos", "stages"})
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace an earlier reconstruction in the folder."
    )
    parser.add_argument(
        "--open", action="store_true", help="Show the scene in the browser when it is done."
    )
    return parser


def _output(folder: str, overwrite: bool, photos: str) -> OutputFolder:
    """The folder to write, checked before anything takes time."""
    source, target = Path(photos).resolve(), Path(folder).resolve()
    if overwrite and source.is_relative_to(target):
        raise ValueError(f"--output {folder} holds the input, {photos}: choose another folder")
    return OutputFolder(folder, overwrite)


def _left_behind(folder: Path) -> str:
    if not (folder / names.MARKER).is_file():
        return "nothing was written"
    return (
        f"{folder} is not complete ({names.MARKER} says so); what is in it is whole: "
        + ", ".join(sorted(path.name for path in folder.iterdir() if path.name != names.MARKER))
    )


def _summarize(scene: Reconstruction, folder: Path) -> None:
    for note in scene.source.notes:
        print(note)
    for name, reason in list(scene.source.dropped.items())[:_MOST_LINES]:
        print(f"left out: {name}: {reason}")
    if len(scene.source.dropped) > _MOST_LINES:
        print(f"left out: {len(scene.source.dropped) - _MOST_LINES} more, see the report")
    for warning in scene.warnings:
        print(f"warning: {warning}")
    used = ", ".join(frame.name for frame in scene.context[:_MOST_LINES])
    print(f"{scene.gaussians.means.shape[1]:,} Gaussians from {used}")
    if scene.scores:
        print(f"{len(scene.scores)} photos left out: {in_words(average(scene.scores))}")
    seconds = sum(scene.seconds.values())
    print(f"{folder}: {names.SPLAT}, {names.VIDEO}, {names.REPORT} ... ({seconds:.0f} s)")


def _asked(question: str) -> bool:
    """The answer of a person; where there is none, no."""
    if not _at_a_terminal():
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
