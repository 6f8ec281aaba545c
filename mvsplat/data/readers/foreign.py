"""Cameras of other programs, which are not read: named, with the way out.

Without this, their pictures would be taken for photos without cameras.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mvsplat.data.readers.clutter import entries
from mvsplat.data.untrusted import is_file

_HEAD = 4096
_COLMAP = "export a COLMAP model from there"
_REALITYSCAN = "export the registration as COLMAP (Alignment > Registration > COLMAP)"
# What a file is called, what is in its head (None: anything), whose it is, the way out.
_KNOWN: tuple[tuple[str, str | None, str, str], ...] = (
    (r"reconstruction.*\.json", '"shots"', "OpenSfM's or ODM's", "run opensfm export_colmap"),
    (r"sfm_data.*\.(json|bin)", None, "OpenMVG's", "run openMVG_main_openMVG2Colmap"),
    (r".*\.sfm", '"views"|"poses"', "Meshroom's", _COLMAP),
    (r".*\.nvm", "NVM_V", "VisualSFM's", _COLMAP),
    (r".*\.out", "# Bundle file", "Bundler's", _COLMAP),
    (r".*\.csv", r"#name,x,y,(alt|z)|#cameras", "RealityScan's", _REALITYSCAN),
    (r".*\.rcproj|.*\.rsproj", None, "RealityScan's project", _REALITYSCAN),
    (r".*\.psx", None, "Metashape's project", "export the cameras as COLMAP or Agisoft XML"),
    (r".*_calibrated_camera_parameters\.txt", None, "Pix4D's", _COLMAP),
    (r"cameras.*\.npz", None, "IDR's or NeuS'", "convert them to transforms.json"),
    (r"cameras\.json", r'"img_name"', "a splat's", "use the COLMAP model it was made from"),
    (r".*\.traj", None, "ARKitScenes'", "convert them to transforms.json"),
    (r"groundtruth\.txt", None, "TUM RGB-D's", "convert them to transforms.json"),
    (r".*\.pose\.txt", None, "7-Scenes'", "convert them to transforms.json"),
    (r".*\.sens", None, "ScanNet's", "unpack it with ScanNet's reader: color/, pose/, intrinsic/"),
)


def foreign_cameras(path: Path) -> str | None:
    """What a folder or file holds of another program's cameras, and the way out; None: nothing."""
    for file in [path] if is_file(path) else _first_of_each_kind(path):
        for name, content, whose, way_out in _KNOWN:
            if re.fullmatch(name, file.name, re.IGNORECASE) and _holds(file, content):
                return f"{file} is {whose}, which is not read: {way_out}"
    return None


def _first_of_each_kind(folder: Path) -> Iterator[Path]:
    """One file of each suffix and length of name: a folder may have thousands of one kind."""
    seen: set[tuple[str, int]] = set()
    for file in entries(folder):
        kind = (file.suffix.lower(), len(file.name))
        if kind not in seen and is_file(file):
            seen.add(kind)
            yield file


def _holds(file: Path, content: str | None) -> bool:
    if content is None:
        return True
    with file.open("rb") as stream:
        return re.search(content, stream.read(_HEAD).decode("utf-8", "replace"), re.I) is not None
