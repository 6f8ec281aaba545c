"""``view``: walk around in splats, in the browser."""

import webbrowser
from pathlib import Path

from jsonargparse import ActionYesNo

from mvsplat.cli.errors import CommandParser


def main(argv: list[str]) -> None:
    """Serve a page that shows what the paths hold, until interrupted."""
    parser = CommandParser(
        prog="mvsplat view",
        description="Walk around in splats in the browser: PLY files and other formats (those of "
        "mvsplat export), run folders (the scenes that predict wrote, with their scores), folders "
        "written by reconstruct. The page comes from this machine and needs no network.",
    )
    parser.add_argument("paths", nargs="+", type=str, metavar="FILE_OR_RUN", help="what to show")
    parser.add_argument("--port", type=int, default=8080, help="port; 0 takes a free one")
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen at; the default is reached from this machine only",
    )
    parser.add_argument(
        "--open",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="open the page in the browser",
    )
    parser.add_argument(
        "--activated",
        type=bool | None,
        default=None,
        help="whether PLY files store opacities and scales as they are, as some feed-forward "
        "programs do, and not as logits and logarithms; null finds out and says so",
    )
    arguments = parser.parse_args(argv)
    paths = [Path(path) for path in arguments.paths]
    show(paths, arguments.host, arguments.port, arguments.open, arguments.activated)


def show(
    paths: list[Path], host: str, port: int, open_page: bool, activated: bool | None = None
) -> None:
    """Serve until interrupted; says where."""
    from mvsplat.viewer import Viewer

    with Viewer(paths, host, port, activated) as viewer:
        print(f"The viewer is at {viewer.url} (Ctrl-C ends it)", flush=True)
        if open_page:
            webbrowser.open(viewer.url)
        viewer.wait()
