"""This program's own ``cameras.json`` beside a splat, with the photographs it names.

Frames have a ``name``, an ``image`` relative to the file (or null), ``width`` and ``height``,
``extrinsics`` (OpenCV camera-to-world) and normalised ``intrinsics``; ``near`` and ``far`` are the
scene's.
"""

from functools import partial
from pathlib import Path
from typing import Any

from mvsplat.data.readers.captures.frames import Frames, Pose, number, numbers, some_hold
from mvsplat.data.readers.finding import find_file
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, read_json

_NAME = "cameras.json"


class SplatCamerasReader(Reader):
    """What ``reconstruct`` wrote, as an input of its own."""

    expected = "what reconstruct wrote (cameras.json with photos/)"

    def recognises(self, path: Path) -> bool:
        file = _file(path)
        return is_file(file) and some_hold([file], b'"extrinsics"')

    def read(self, path: Path) -> Scene:
        file = _file(path)
        content = read_json(file)
        listed = content.get("frames")
        if not isinstance(listed, list):
            raise ValueError(f"{file}: frames is missing, expected a list")
        frames = Frames(file)
        for index, fields in enumerate(listed):
            fields = fields if isinstance(fields, dict) else {}
            name = str(fields.get("name", index))
            picture = find_file(str(fields.get("image") or ""), file.parent)
            frames.add(name, picture, partial(_camera, fields))
        near, far = (number(content, bound, 0.0) for bound in ("near", "far"))
        bounds = {"near": near, "far": far} if 0 < near < far else {}
        return frames.scene(path.name, **bounds)


def _camera(fields: dict[str, Any]) -> tuple[Lens, Pose]:
    size = round(number(fields, "width")), round(number(fields, "height"))
    matrix = numbers(fields.get("intrinsics"), (3, 3), "intrinsics")
    (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
    return Lens((fx, fy), (cx, cy), size), numbers(fields.get("extrinsics"), (4, 4), "extrinsics")


def _file(path: Path) -> Path:
    return path if path.name == _NAME else path / _NAME
