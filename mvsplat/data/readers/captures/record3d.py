"""Record3D's "EXR + RGB" export, and its .r3d file unpacked: ``metadata.json`` with pictures.

As Record3D documents them and nerfstudio reads them: ``K`` is the intrinsic matrix column by
column, in pixels of ``w`` x ``h``; ``perFrameIntrinsicCoeffs``, in newer exports, are fx, fy, cx,
cy of each frame; ``poses`` are camera-to-world, a quaternion (x, y, z, w) and a position, with
ARKit's axes (x right, y up, z backward). Pictures are numbered from 0, in ``rgb`` or ``rgbd``.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    from_opengl,
    number,
    numbers,
    pictures_by_stem,
    rigid,
)
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder, read_json
from mvsplat.geometry.rotations import quaternion_to_matrix

_PICTURES = ("rgb", "rgbd")


class Record3DReader(Reader):
    """Record3D's export."""

    expected = "a Record3D export (metadata.json beside rgb/)"

    def recognises(self, path: Path) -> bool:
        return _is_metadata(_metadata(path)) and _pictures(path) is not None

    def nearly(self, path: Path) -> str | None:
        if is_file(path) and path.suffix.lower() == ".r3d":
            return (
                f"{path} is Record3D's own file: unpack it (it is a ZIP archive) and name the "
                "folder, or export EXR + RGB from the app"
            )
        if _is_metadata(_metadata(path)):
            return (
                f"{_metadata(path)} is Record3D's, but its pictures are missing: expected rgb/ "
                "(or rgbd/) beside it; export EXR + RGB"
            )
        return None

    def read(self, path: Path) -> Scene:
        file, folder = _metadata(path), _pictures(path)
        if folder is None:
            raise FileNotFoundError(f"{file.parent} holds no rgb/ with pictures")
        content = read_json(file)
        poses = content.get("poses")
        if not isinstance(poses, list) or not poses:
            raise ValueError(f"{file}: poses is missing or empty, expected a list")
        single = content.get("perFrameIntrinsicCoeffs")
        single = single if isinstance(single, list) and len(single) == len(poses) else None
        pictures = pictures_by_stem(folder)
        frames = Frames(file)
        for index, pose in enumerate(poses):
            own = None if single is None else single[index]
            frames.add(str(index), pictures.get(str(index)), partial(_camera, content, own, pose))
        return frames.scene(path.name)


def _camera(content: dict[str, Any], own: Any, pose: Any) -> tuple[Lens, Pose]:
    return _lens(content, own), _pose(pose)


def _lens(content: dict[str, Any], own: Any) -> Lens:
    size = round(number(content, "w")), round(number(content, "h"))
    if own is not None:
        fx, fy, cx, cy = numbers(own, (4,), "perFrameIntrinsicCoeffs").tolist()
    else:
        matrix = numbers(content.get("K"), (9,), "K").view(3, 3).mT
        fx, fy, cx, cy = (float(matrix[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Lens.from_pixels((fx, fy), (cx, cy), size)


def _pose(values: Any) -> Pose:
    pose = numbers(values, (7,), "a pose")
    x, y, z, w = pose[:4].tolist()
    quaternion = torch.tensor([w, x, y, z], dtype=torch.float64)
    if quaternion.norm() < 1e-6:
        raise ValueError("the quaternion of a pose is zero")
    rotation = quaternion_to_matrix(quaternion / quaternion.norm())
    return from_opengl(rigid(rotation.numpy(), pose[4:].numpy()))


def _metadata(path: Path) -> Path:
    return path if path.name == "metadata.json" else path / "metadata.json"


def _pictures(path: Path) -> Path | None:
    base = _metadata(path).parent
    return next((base / name for name in _PICTURES if is_folder(base / name)), None)


def _is_metadata(file: Path) -> bool:
    if not is_file(file):
        return False
    content = file.read_bytes()
    return b'"poses"' in content and b'"K"' in content
