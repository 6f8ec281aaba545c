"""Nerfies' and HyperNeRF's layout (Park et al. 2021): a JSON a camera, pictures in ``rgb/1x``.

``orientation`` is the world-to-camera rotation with OpenCV's axes, ``position`` the camera's place,
``focal_length``, ``pixel_aspect_ratio`` and ``principal_point`` are in pixels of ``image_size``;
distortion is Brown's: ``radial_distortion`` k1 k2 k3 and ``tangential_distortion`` p1 p2. Bounds
in ``scene.json`` are those of the world scaled by its ``scale``; ``points.npy`` is not scaled.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    load_array,
    number,
    numbers,
    pictures_by_stem,
    rigid,
    some_hold,
)
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.distortion import Brown
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder, read_json


class NerfiesReader(Reader):
    """Nerfies and HyperNeRF data."""

    expected = "Nerfies or HyperNeRF data (camera/NAME.json and rgb/1x)"

    def recognises(self, path: Path) -> bool:
        return _pictures(path) is not None and _has_cameras(path)

    def nearly(self, path: Path) -> str | None:
        if _has_cameras(path):
            return (
                f"{path / 'camera'} has Nerfies' cameras, but their pictures are missing: "
                "expected them in rgb/1x, rgb/2x, ..."
            )
        return None

    def read(self, path: Path) -> Scene:
        folder = _pictures(path)
        if folder is None:
            raise FileNotFoundError(f"{path} holds no rgb/1x, rgb/2x, ... with pictures")
        pictures = pictures_by_stem(folder)
        frames = Frames(path / "camera")
        for file in _cameras(path):
            frames.add(file.stem, pictures.get(file.stem), partial(_camera, file))
        points = partial(_points, path / "points.npy")
        return frames.scene(path.name, load_points=points, **_bounds(path / "scene.json"))


def _camera(file: Path) -> tuple[Lens, Pose]:
    fields = read_json(file)
    width, height = numbers(fields.get("image_size"), (2,), "image_size").tolist()
    cx, cy = numbers(fields.get("principal_point"), (2,), "principal_point").tolist()
    k = numbers(fields.get("radial_distortion", [0, 0, 0]), (3,), "radial_distortion").tolist()
    p = numbers(fields.get("tangential_distortion", [0, 0])[:2], (2,), "tangential_distortion")
    if abs(number(fields, "skew", 0.0)) > 1e-6:
        raise ValueError(f"skew is {number(fields, 'skew'):g}, which is not supported")
    focal = number(fields, "focal_length")
    distortion = Brown(tuple(k), (), tuple(p.tolist())) if any((*k, *p.tolist())) else None
    lens = Lens.from_pixels(
        (focal, focal * number(fields, "pixel_aspect_ratio", 1.0)),
        (cx, cy),
        (round(width), round(height)),
        distortion,
    )
    rotation = numbers(fields.get("orientation"), (3, 3), "orientation").mT
    return lens, rigid(rotation.numpy(), fields.get("position"))


def _bounds(file: Path) -> dict[str, Any]:
    """Depth bounds in the units of the cameras, where the data has them."""
    if not is_file(file):
        return {}
    fields = read_json(file)
    if not {"near", "far", "scale"} <= set(fields):
        return {}
    try:
        near, far, scale = (number(fields, name) for name in ("near", "far", "scale"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return {"near": near / scale, "far": far / scale} if scale > 0 and 0 < near < far else {}


def _points(file: Path) -> Tensor | None:
    if not is_file(file):
        return None
    points = load_array(file)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{file} has the shape {list(points.shape)}, expected [points, 3]")
    return torch.from_numpy(points.astype("float32"))


def _cameras(path: Path) -> list[Path]:
    return [file for file in entries(path / "camera") if file.suffix == ".json"]


def _has_cameras(path: Path) -> bool:
    return some_hold(_cameras(path), b'"orientation"')


def _pictures(path: Path) -> Path | None:
    """The folder of the largest pictures: rgb/1x before rgb/2x; or rgb itself."""
    sizes = [f for f in entries(path / "rgb") if is_folder(f) and re.fullmatch(r"\d+x", f.name)]
    if sizes:
        return min(sizes, key=lambda folder: int(folder.name[:-1]))
    return path / "rgb" if is_folder(path / "rgb") else None
