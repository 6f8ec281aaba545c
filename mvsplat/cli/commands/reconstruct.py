"""``reconstruct``: a folder of photographs, a video or data with cameras becomes a scene."""

from mvsplat.cli.errors import CommandParser
from mvsplat.cli.scene_command import make_folder, output_folder
from mvsplat.reconstruction.pipeline import reconstruct

EPILOG = """\
The folder gets scene.ply (opens in any 3DGS viewer), cameras.json, a video, depth maps, the photos,
scores.json, and report.html with scores, warnings and times; "mvsplat view DIR" shows it, while it
is refined, too. Ctrl-C while it is refined ends that and keeps the best so far.
"""


def main(argv: list[str]) -> None:
    """Reconstruct what the arguments name, write it, and offer to show it."""
    options = _parser().parse_args(argv).as_dict()
    folder, overwrite, show = (options.pop(name) for name in ("output", "overwrite", "open"))
    options["max_photos"], options["photos"] = options.pop("photos"), options.pop("input")
    output = output_folder(folder, overwrite, options["photos"])
    make_folder(lambda stages: reconstruct(**options, stages=stages), output, show)


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
    parser.add_argument("--output", type=str, required=True, help="The folder to write.")
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
