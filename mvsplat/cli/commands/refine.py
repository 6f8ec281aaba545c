"""``refine``: a splat of any origin is optimised on photographs with cameras."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mvsplat.cli.errors import CommandParser
from mvsplat.cli.scene_command import make_folder, make_scene, output_folder, summarize
from mvsplat.export.cameras import FILE_NAME
from mvsplat.export.splat_registry import is_named_like_a_splat, writing
from mvsplat.reconstruction.output import check_writable
from mvsplat.reconstruction.previews import Previews
from mvsplat.reconstruction.refine_splat import refine_splat
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.saving import save_file
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

    if is_named_like_a_splat(target) and not Path(target).is_dir():
        _to_file(make, Path(target), overwrite, options["splat"])
    else:
        output = output_folder(target, overwrite, options["splat"], options["photos"])
        make_folder(make, output, show)


def _to_file(
    make: Callable[[Stages], Reconstruction], target: Path, overwrite: bool, source: str
) -> None:
    """Write nothing but the splat and its cameras, which some formats hold."""
    if target.exists() and not overwrite:
        raise ValueError(f"--output {target} is there already; --overwrite replaces it")
    check_writable(target.parent)
    cameras = target.with_name(FILE_NAME)
    if cameras.exists():  # of another splat, perhaps
        cameras = target.with_suffix(f".{FILE_NAME}")

    def left_behind() -> str:
        if not previews.written:
            return "nothing was written"
        return f"{target} is the scene as it was while it was refined"

    previews = Previews(target, cameras)
    # What is refined is replaced by something better only, and a page by a whole one.
    is_source = target.resolve() == Path(source).resolve()
    is_whole = writing(target).format.takes("cameras")
    scene = make_scene(
        make,
        lambda scene: save_file(scene, target, cameras),
        left_behind,
        None if is_source or is_whole else previews,
    )
    summarize(scene)
    written = str(target) if is_whole else f"{target}, {cameras.name}"
    print(f"{written} ({sum(scene.seconds.values()):.0f} s)")


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
