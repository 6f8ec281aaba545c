"""``reconstruct``: a folder of photographs, a video or data with cameras becomes a scene."""

from pathlib import Path

from mvsplat.cli.errors import CommandParser
from mvsplat.cli.scene_command import make_file, make_folder, names_a_splat, output_folder
from mvsplat.reconstruction.pipeline import reconstruct
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.stages import Stages

EPILOG = """\
The folder gets scene.ply (opens in any 3DGS viewer), cameras.json, a video, depth maps, the photos,
scores.json, and report.html with scores, warnings and times; "mvsplat view DIR" shows it, while it
is refined, too. With a name such as scene.spz, only that splat is written, and its cameras beside
it; scene.html is a page to send, with cameras and photos in it. Ctrl-C while it is refined ends
that and keeps the best so far.
"""


def main(argv: list[str]) -> None:
    """Reconstruct what the arguments name, write it, and offer to show it."""
    options = _parser().parse_args(argv).as_dict()
    target, splat, overwrite, show = (
        options.pop(name) for name in ("output", "splat", "overwrite", "open")
    )
    options["max_photos"], options["photos"] = options.pop("photos"), options.pop("input")

    def make(stages: Stages) -> Reconstruction:
        return reconstruct(**options, stages=stages)

    if not names_a_splat(target):
        output = output_folder(target, overwrite, options["photos"], splat=splat or ".ply")
        make_folder(make, output, show)
    elif splat is not None:
        raise ValueError(f"--splat {splat} is for folders; --output {target} is a splat itself")
    else:
        make_file(make, Path(target), overwrite)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="mvsplat reconstruct",
        description="Make a 3-D scene from a folder of photos, a video, or data with cameras.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "input",
        type=str,
        metavar="PHOTOS",
        help="A folder of photos, a video, or data with cameras (COLMAP, transforms.json ...).",
    )
    parser.add_argument(
        "--output", type=str, required=True, help="The folder to write, or a splat file."
    )
    parser.add_argument(
        "--splat",
        type=str | None,
        default=None,
        metavar="SUFFIX",
        help="The format of the folder's splat: spz, sog, compressed.ply ...; null: ply.",
    )
    parser.add_argument(
        "--photos",
        type=int | None,
        default=None,
        metavar="N",
        help="Make the scene from N photos, chosen by overlap, baseline and coverage; null takes "
        "all that are not held out.",
    )
    skipped: set[str | int] = {"photos", "max_photos", "stages"}
    parser.add_function_arguments(reconstruct, as_group=False, skip=skipped)
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace an earlier reconstruction in the folder."
    )
    parser.add_argument(
        "--open", action="store_true", help="Show the scene in the browser when it is done."
    )
    return parser
