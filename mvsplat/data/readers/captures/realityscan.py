"""RealityScan's (RealityCapture's) XMP files: one of the same name beside each picture.

As its support page "XMP camera math" has them: ``Rotation`` is world-to-camera row by row with
OpenCV's axes, ``Position`` the camera's place. ``FocalLength35mm`` / 36 is the focal length and
``PrincipalPointU``, ``V`` the principal point counted from the middle, in units of the picture's
longer side. ``DistortionCoeficients`` (so spelled) of the brown models are k1 to k4, then two of
tangential distortion, which are read as none only: their order is not written down.
"""

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import torch

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    numbers,
    pictures_by_stem,
    rigid,
    some_hold,
)
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.distortion import Brown
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.picture_files import picture_size
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import read_text

_NAMESPACE = "{http://www.capturingreality.com/ns/xcr/1.1#}"
_WAY_OUT = "export the registration as COLMAP instead"
_FARTHEST = 1e4


class RealityScanReader(Reader):
    """RealityScan's XMP files beside pictures."""

    expected = "RealityScan's XMP files (beside the pictures)"

    def recognises(self, path: Path) -> bool:
        files = _files(path)
        return _have_poses(files) and bool(
            {file.stem for file in files} & set(pictures_by_stem(path))
        )

    def nearly(self, path: Path) -> str | None:
        if not _have_poses(_files(path)):
            return None
        return (
            f"{path} has RealityScan's XMP files with cameras, but no pictures of their names: "
            f"put them together, or {_WAY_OUT}"
        )

    def read(self, path: Path) -> Scene:
        pictures = pictures_by_stem(path)
        frames = Frames(path)
        for file in _files(path):
            picture = pictures.get(file.stem)
            frames.add(file.stem, picture, partial(_camera, file, picture or path))
        _bring_near(frames)
        return frames.scene(path.name)


def _camera(file: Path, picture: Path) -> tuple[Lens, Pose]:
    fields = _fields(file)
    model = fields.get("DistortionModel", "perspective")
    *radial, t1, t2 = _values(fields, "DistortionCoeficients", 6, "0 0 0 0 0 0")
    brown = model.startswith("brown") or not any((*radial, t1, t2))
    if not brown or t1 or t2 or _values(fields, "Skew", 1, "0") != [0]:
        raise ValueError(f"{file}: distortion {model} with such numbers is not read; {_WAY_OUT}")
    (focal,) = _values(fields, "FocalLength35mm", 1)
    (aspect,) = _values(fields, "AspectRatio", 1, "1")
    (u,), (v,) = (_values(fields, f"PrincipalPoint{axis}", 1, "0") for axis in "UV")
    size = picture_size(picture)
    longer = max(size)
    lens = Lens.from_pixels(
        (focal / 36 * longer, focal / 36 * longer * aspect),
        (size[0] / 2 + u * longer, size[1] / 2 + v * longer),
        size,
        Brown(tuple(radial)) if any(radial) else None,
    )
    rotation = torch.tensor(_values(fields, "Rotation", 9), dtype=torch.float64).view(3, 3)
    return lens, rigid(rotation.mT.numpy(), _values(fields, "Position", 3))


def _fields(file: Path) -> dict[str, str]:
    """RealityScan's entries, whether they are attributes or elements."""
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{file} declares entities, which RealityScan's files never do")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is damaged, or no XML: {error}") from error
    found: dict[str, str] = {}
    for element in root.iter():
        found |= element.attrib | {element.tag: element.text or ""}
    return {
        name.removeprefix(_NAMESPACE): value
        for name, value in found.items()
        if name.startswith(_NAMESPACE)
    }


def _values(
    fields: dict[str, str], name: str, count: int, default: str | None = None
) -> list[float]:
    words = fields.get(name, default)
    if words is None:
        raise ValueError(f"it has no {name}")
    try:
        values = [float(word) for word in words.split()]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return numbers(values, (count,), name).tolist()


def _bring_near(frames: Frames) -> None:
    """Move a scene that is placed on earth to the origin: float32 has seven digits."""
    if not frames.photos:
        return
    middle = torch.stack([photo.extrinsics[:3, 3] for photo in frames.photos]).mean(0)
    if middle.norm() > _FARTHEST:
        for photo in frames.photos:
            photo.extrinsics[:3, 3] -= middle


def _files(path: Path) -> list[Path]:
    return [file for file in entries(path) if file.suffix.lower() == ".xmp"]


def _have_poses(files: list[Path]) -> bool:
    return some_hold(files, b"xcr:Rotation") or some_hold(files[-5:], b"xcr:Rotation")
