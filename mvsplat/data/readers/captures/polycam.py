"""Polycam's raw data: ``keyframes`` with a picture and a small JSON of its camera a frame.

As nerfstudio's ``ns-process-data polycam`` reads them: ``t_00`` to ``t_23`` are the rows of
camera-to-world with ARKit's axes (x right, y up, z backward, of the picture as it is stored),
``fx fy cx cy width height`` are in pixels. Polycam's own improvement of the poses, where there is
one, is in ``corrected_cameras`` with ``corrected_images``.
"""

from functools import partial
from pathlib import Path

import torch

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    from_opengl,
    number,
    pictures_by_stem,
    pictures_in,
    some_hold,
)
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_folder, read_json


class PolycamReader(Reader):
    """Polycam's raw export."""

    expected = "a Polycam raw export (keyframes/cameras and keyframes/images)"

    def recognises(self, path: Path) -> bool:
        return _folders(path) is not None

    def nearly(self, path: Path) -> str | None:
        frames = _keyframes(path)
        if is_folder(frames / "depth") and pictures_in(frames / "images") or frames != path:
            return (
                f"{frames} looks like Polycam's raw data, but cameras/ with JSON files and images/ "
                "are not both there: export the raw data again (Developer Mode must have been on "
                "when it was captured)"
            )
        return None

    def read(self, path: Path) -> Scene:
        folders = _folders(path)
        if folders is None:
            raise FileNotFoundError(f"{path} holds no keyframes/cameras and keyframes/images")
        cameras, images = folders
        pictures = pictures_by_stem(images)
        frames = Frames(cameras)
        for file in _camera_files(cameras):
            frames.add(file.stem, pictures.get(file.stem), partial(_camera, file))
        return frames.scene(path.name)


def _camera(file: Path) -> tuple[Lens, Pose]:
    fields = read_json(file)
    pose = torch.eye(4, dtype=torch.float64)
    for row in range(3):
        for column in range(4):
            pose[row, column] = number(fields, f"t_{row}{column}")
    fx, fy, cx, cy = (number(fields, name) for name in ("fx", "fy", "cx", "cy"))
    size = round(number(fields, "width")), round(number(fields, "height"))
    return Lens.from_pixels((fx, fy), (cx, cy), size), from_opengl(pose)


def _keyframes(path: Path) -> Path:
    return path / "keyframes" if is_folder(path / "keyframes") else path


def _folders(path: Path) -> tuple[Path, Path] | None:
    """Of cameras and of pictures, the corrected ones where there are."""
    base = _keyframes(path)
    for prefix in ("corrected_", ""):
        cameras, images = base / f"{prefix}cameras", base / f"{prefix}images"
        if is_folder(images) and some_hold(_camera_files(cameras), b'"t_00"'):
            return cameras, images
    return None


def _camera_files(folder: Path) -> list[Path]:
    return [file for file in entries(folder) if file.suffix == ".json"]
