"""Photographs small enough to be sent in a page."""

import base64
import io
import logging
from pathlib import Path

from PIL import Image

MOST_BYTES = 100_000
_LONGEST_SIDE = 960
_QUALITIES = (85, 75, 65)
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_log = logging.getLogger("mvsplat.export")


def embedded_photo(path: Path) -> str | None:
    """A photograph as a ``data:`` address of a JPEG of at most 100 KB; None if it is unreadable."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
            photo = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        _log.warning("the photo %s is left out of the page: %s", path, error)
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(_reduced(photo)).decode('ascii')}"


def _reduced(photo: Image.Image) -> bytes:
    side = min(_LONGEST_SIDE, max(photo.size))
    while True:
        small = photo.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            file = io.BytesIO()
            small.save(file, "JPEG", quality=quality, optimize=True)
            if file.tell() <= MOST_BYTES:
                return file.getvalue()
        side = side * 3 // 4
