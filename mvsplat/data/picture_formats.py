"""The picture formats that are read, the same wherever pictures come from, and what others are.

Pillow knows more. Those are left out on purpose: they run other programs (EPS), are no photographs,
or are seldom met and little tested decoders that a file from elsewhere should not reach.
"""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_WANTED = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF", "JPEG2000", "TGA")
FORMATS = tuple(
    # Pillow before 11.3 has no AVIF, and stumbles over formats that it does not know.
    name
    for name in _WANTED
    if name != "AVIF" or find_spec("PIL.AvifImagePlugin")
)
SUFFIXES = frozenset(
    (
        ".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .ppm .pgm .pbm .pnm .gif .avif .jp2 "
        ".j2k .tga"
    ).split()
)
"""Of files in these formats, in lower case."""

_HEIC = (
    "HEIC",
    "export the photos as JPEG (on a Mac: sips -s format jpeg *.heic --out FOLDER; elsewhere: "
    "heif-convert)",
)
_RAW = (
    "a camera's raw format",
    "develop the photos to JPEG, or take the JPEG files that the camera wrote beside them",
)
_OTHERS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys(".dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .pef .srw .raw".split(), _RAW),
    **dict.fromkeys((".exr", ".hdr"), ("high dynamic range", "tone-map the pictures to JPEG")),
    ".jxl": ("JPEG XL", "convert the pictures to JPEG (djxl)"),
    ".insp": ("a 360-degree camera's format", "export flat (reframed) pictures from its app"),
}
NAMED_SUFFIXES = SUFFIXES | frozenset(_OTHERS)
"""Of files that are pictures by their names, also those that cannot be read."""

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def why_unreadable(error: Exception, path: Path | None = None, head: bytes = b"") -> str:
    """Why a picture cannot be opened: what it is, if it is of another format, and the way out.

    Args:
        error: What Pillow says.
        path: The picture's file, if it has one.
        head: Else its first bytes.
    """
    if path is not None:
        with suppress(OSError), path.open("rb") as file:
            head = file.read(16)
    suffix = path.suffix.lower() if path is not None else ""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        suffix = ".heic"
    if head and suffix in _OTHERS:
        kind, way_out = _OTHERS[suffix]
        return f"{kind} is not among {', '.join(FORMATS)}; {way_out}"
    if "cannot identify" in str(error):  # Pillow goes on with an object's address
        return f"cannot identify it as any of {', '.join(FORMATS)}"
    return str(error)


def is_raw(path: Path) -> bool:
    """Whether a file is, by its name, a camera's raw picture, of which Pillow sees a thumbnail."""
    return _OTHERS.get(path.suffix.lower()) == _RAW
