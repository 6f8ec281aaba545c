"""Files of splats and other 3-D data that are not read: named, with the way to plain PLY."""

import gzip
import zipfile
import zlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_CONVERT = (
    "export plain PLY instead: open it in the SuperSplat editor and export it as PLY, "
    "uncompressed, or run npx @playcanvas/splat-transform {name} scene.ply"
)
_AGAIN = "export PLY from the program that made it"
_NO_SPLAT = "not Gaussians; a splat is made from photographs (mvsplat reconstruct)"
# By suffix: what it is, and the way out.
_KNOWN = {
    ".lcc": ("an .lcc file (XGRIDS' format)", _CONVERT),
    ".rad": ("an .rad file (Spark's format)", _AGAIN),
    ".splatv": ("a .splatv file (moving splats)", _AGAIN),
    ".ckpt": ("a checkpoint", "make a scene with it: mvsplat reconstruct PHOTOS --checkpoint ..."),
    ".pt": ("a PyTorch file", _AGAIN),
    ".pth": ("a PyTorch file", _AGAIN),
    **dict.fromkeys((".obj", ".stl", ".fbx", ".usdz", ".dae", ".off"), ("a mesh", _NO_SPLAT)),
    **dict.fromkeys((".las", ".laz", ".e57", ".pcd", ".xyz", ".pts"), ("a point cloud", _NO_SPLAT)),
}


SUFFIXES = frozenset((".lcc", ".rad", ".splatv"))
"""Of splats that are not read, in lower case."""


def foreign_format(path: Path, taken_for: str = "") -> str | None:
    """What a file is that is not read by its name, and the way out; None: nothing that is known.

    Args:
        path: The file.
        taken_for: The suffix of the format that it was taken for, if there is one.
    """
    suffix = path.suffix.lower()
    return misnamed(path, taken_for) or (_told(path, *_KNOWN[suffix]) if suffix in _KNOWN else None)


def misnamed(path: Path, taken_for: str) -> str | None:
    """What a file is by its content that its suffix does not say, and the way out.

    Of formats without such a mark (.splat, .ksplat, JSON) nothing is known.

    Args:
        path: The file.
        taken_for: The suffix of the format that it is taken for.
    """
    with path.open("rb") as file:
        head = file.read(4)
    suffixes: tuple[str, ...]
    if head in (b"ply\n", b"ply\r"):
        what, suffixes = "a PLY file", (".ply", ".compressed.ply")
    elif head == b"glTF":
        what, suffixes = "a glTF file", (".glb", ".gltf")
    elif head == b"NGSP" or (head[:2] == b"\x1f\x8b" and _unpacked(path) == b"NGSP"):
        what, suffixes = "an .spz file", (".spz",)
    elif head == b"PK\3\4" and _is_sog(path):
        what, suffixes = "an .sog file", (".sog",)
    else:
        return None
    if taken_for in suffixes:
        return None
    return f"{what} of another name: rename it to {path.with_suffix(suffixes[0]).name}"


def foreign_ply(path: Path, counts: dict[str, int], properties: Collection[str]) -> str | None:
    """What a PLY file is whose points are not 3-D Gaussians, and the way out."""
    names = set(properties)
    if "f_anchor_feat_0" in names or "f_offset_0" in names:
        what = "the anchors of Scaffold-GS or a model derived from it, which need its networks"
        return _told(path, what, "export its Gaussians")
    if {"scale_0", "scale_1", "opacity"} <= names and "scale_2" not in names:
        return _told(path, "2-D Gaussians (surfels), which have two scales", "train 3-D Gaussians")
    if not {"opacity", "scale_0", "rot_0"} & names and (
        counts.get("face") or counts.get("tristrips")
    ):
        return _told(path, "a mesh", _NO_SPLAT)
    return None


def _told(path: Path, what: str, way_out: str) -> str:
    return f"{what}, which is not read: {way_out.format(name=path.name)}"


def _unpacked(path: Path) -> bytes:
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
        return file.read(4)
    return b""


def _is_sog(path: Path) -> bool:
    with suppress(zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        with zipfile.ZipFile(path) as archive:
            return "meta.json" in archive.namelist()
    return False
