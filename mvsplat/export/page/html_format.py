"""The format ``.html``: one page that holds a scene, its cameras and photographs, and a viewer.

The page is opened from a disk, without a network, and a policy in it forbids it to ask for
anything. Scene (as SOG) and viewer are in elements that browsers do not run; see
``viewer/README.md`` for what the viewer is and ``page.js`` for what is done with it.
"""

import io
from collections.abc import Callable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from mvsplat.export.cameras import Cameras, cameras_content
from mvsplat.export.formats.sog import write_archive
from mvsplat.export.formats.sog_pictures import ZippedPictures
from mvsplat.export.formats.sog_reading import check, read
from mvsplat.export.page.elements import (
    MARK,
    bytes_elements,
    bytes_in,
    is_page,
    json_element,
)
from mvsplat.export.page.photos import embedded_photo
from mvsplat.export.page.placing import placed_for_page
from mvsplat.export.splat_format import SplatFormat
from mvsplat.types import Gaussians

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src data: blob:; worker-src blob:"
)
_BODY = """\
<div id="scene"></div>
<img id="photo" alt="" hidden>
<nav id="cameras" hidden>
<button id="before" aria-label="Camera before">&#8249;</button>
<button id="after" aria-label="Next camera">&#8250;</button>
<div id="list"></div>
<span id="name"></span>
<label id="photo-share" hidden>Photo
<input id="share" type="range" min="0" max="1" step="0.05" value="0"></label>
</nav>
<p id="trouble" hidden></p>
<noscript>This page shows a scene in three dimensions, for which it needs JavaScript.</noscript>
"""


class HtmlFormat(SplatFormat):
    """The format ``.html``."""

    about = "a page that shows the scene in any browser"

    def write(
        self,
        gaussians: Gaussians,
        path: Path,
        *,
        cameras: Cameras | None = None,
        title: str = "Scene",
        photos: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write a page.

        Args:
            gaussians: A batch of one scene, of degree 0 to 3.
            path: The file.
            cameras: Cameras to list; the page opens at the first one.
            title: Of the page.
            photos: Hold the cameras' photographs, reduced to 100 KB each.
            progress: Told of how many cameras, of how many, the photographs are done.
        """
        splat = io.BytesIO()
        write_archive(gaussians, splat)
        frames = [] if cameras is None else cameras.frames
        about = placed_for_page(gaussians, frames)
        about["world"] = None if cameras is None else cameras_content(cameras)
        for number, frame in enumerate(frames):
            photo = embedded_photo(frame.image) if photos and frame.image else None
            about["cameras"][number]["photo"] = photo
            if progress is not None:
                progress(number + 1, len(frames))
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_page(title, about, splat.getbuffer()))

    def recognises(self, path: Path) -> bool:
        return is_page(path)

    def read(self, path: Path) -> Gaussians:
        with ZippedPictures(path, io.BytesIO(bytes_in(path, "splat"))) as pictures:
            return read(pictures)

    def check(self, path: Path) -> None:
        with ZippedPictures(path, io.BytesIO(bytes_in(path, "splat"))) as pictures:
            check(pictures)


def _page(title: str, about: dict[str, Any], splat: memoryview) -> Iterator[str]:
    own, viewer = files("mvsplat.export.page"), files("mvsplat.export.page") / "viewer"
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
    yield f"{MARK}\n"
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{escape(title)}</title>\n"
    for style in (viewer / "supersplat-viewer.css", own / "page.css"):
        yield f"<style>\n{style.read_text(encoding='utf-8')}</style>\n"
    yield f"</head><body>\n{_BODY}"
    yield json_element("about", about)
    yield from bytes_elements("viewer", (viewer / "supersplat-viewer.js.gz").read_bytes())
    yield from bytes_elements("splat", splat)
    script = (own / "page.js").read_text(encoding="utf-8")
    yield f'<script type="module">\n{script}</script>\n</body></html>\n'
