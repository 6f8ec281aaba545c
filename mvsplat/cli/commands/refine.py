"""``refine``: a splat of any origin is optimised on photographs with cameras."""

from pathlib import Path
from typing import Literal

from mvsplat.cli.errors import CommandParser
from mvsplat.cli.scene_command import make_file, make_folder, names_a_splat, output_folder
from mvsplat.reconstruction.refine_splat import refine_splat
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.stages import Stages

EPILOG = """\
The folder gets what "mvsplat reconstruct" writes: scene.ply, cameras.json, a video, depth maps,
scores.json and report.html, which compares with photos held out, before and after. With a name
such as refined.ply, only that splat is written, and its cameras beside it; refined.html is a page
to send, with cameras and photos in it. The splat (but no page) is replaced every few seconds
meanwhile; "mvsplat view" of it shows how it becomes better. Ctrl-C ends refinement and keeps the
best so far.
"""


def main(argv: list[str]) -> None:
    """Refine what the arguments name, and write it."""
    options = _parser().parse_args(argv).as_dict()
    target, overwrite, show = (options.pop(name) for name in ("output", "overwrite", "open"))
    options["max_photos"], options["photos"] = options.pop("photos"), options.pop("input")
    seconds = options.pop("refine")
    options["seconds"] = None if seconds == "auto" else seconds

    def make(stages: Stages) -> Reconstruction:
        return refine_splat(**options, stages=stages)

    if names_a_splat(target):
        make_file(make, Path(target), overwrite, source=options["splat"])
    else:
        output = output_folder(target, overwrite, options["splat"], options["photos"])
        make_folder(make, output, show)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="mvsplat refine",
        description="Optimise a splat on photos whose cameras are in its frame.",
        epilog=EPILOG,
    )
    parser.add_argument("splat", type=str, metavar="SPLAT", help="A splat file (PLY ...).")
    parser.add_argument(
        "input",
        type=str,
        metavar="PHOTOS",
        help="Photos with cameras: a COLMAP model, a transforms.json ...",
    )
    parser.add_argument(
        "--output", type=str, required=True, help="The folder to write, or a splat file."
    )
    parser.add_argument(
        "--refine",
        type=Literal["auto"] | float,
        default="auto",
        help="Optimise by a number of steps that suits the photos (auto: about a minute on two "
        "cores), or for so many seconds.",
    )
    parser.add_argument(
        "--photos",
        type=int | None,
        default=None,
        metavar="N",
        help="Refine on N photos, chosen by overlap, baseline and coverage; null takes all that "
        "are not held out.",
    )
    skipped: set[str | int] = {"splat", "photos", "max_photos", "seconds", "stages"}
    parser.add_function_arguments(refine_splat, as_group=False, skip=skipped)
    parser.add_argument("--overwrite", action="store_true", help="Replace earlier results.")
    parser.add_argument(
        "--open", action="store_true", help="Show the scene in the browser when it is done."
    )
    return parser
