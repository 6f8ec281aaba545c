"""The cameras beside a splat file: what the viewer shows as frusta, in plain JSON.

``scene.ply`` goes with ``scene.cameras.json``, or with the folder's ``cameras.json``::

    {"near": 1.0, "far": 100.0, "dilated": false,
     "frames": [{"name": "IMG_1.jpg", "image": "images/IMG_1.jpg", "width": 480, "height": 719,
                 "extrinsics": [[...], [...], [...], [...]], "intrinsics": [[...], [...], [...]]}]}

Conventions are those of :mod:`mvsplat.types`: OpenCV camera-to-world matrices in the PLY file's
frame and unit, normalised intrinsics. ``image`` is relative to the JSON file, or null; ``dilated``
may be missing.
"""

import json
import math
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.export.page.elements import is_page, json_in
from mvsplat.files import replacing
from mvsplat.geometry.projection import well_formed

FILE_NAME = "cameras.json"


@dataclass
class Frame:
    """One camera and, where there is one, its photograph.

    Args:
        name: What to call it, for instance the photograph's file name.
        extrinsics: Camera-to-world matrix.
        intrinsics: Normalised intrinsics.
        width: Of the photograph, in pixels.
        height: Of the photograph, in pixels.
        image: The photograph's file, if it is at hand.
    """

    name: str
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    width: int
    height: int
    image: Path | None = None


@dataclass
class Cameras:
    """The cameras of a scene, in the order of its camera path.

    Args:
        frames: At least one.
        near: Nearest depth of the scene, in its unit.
        far: Farthest depth of the scene.
        dilated: The splat carries the dilation of its model's pixels already, so that it has no
            gaps in close-ups; a viewer need not add any.
    """

    frames: list[Frame]
    near: float
    far: float
    dilated: bool = False


def save_cameras(cameras: Cameras, path: str | Path) -> None:
    """Write cameras as JSON; paths of photographs become relative to the file's folder."""
    path = Path(path)
    content = cameras_content(cameras, path.parent)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def cameras_content(cameras: Cameras, folder: Path | None = None) -> dict[str, Any]:
    """What is stored of cameras; photographs relative to a folder, or left out without one."""
    frames = [
        {
            "name": frame.name,
            "image": relpath(frame.image, folder) if frame.image and folder else None,
            "width": frame.width,
            "height": frame.height,
            "extrinsics": frame.extrinsics.tolist(),
            "intrinsics": frame.intrinsics.tolist(),
        }
        for frame in cameras.frames
    ]
    return {
        "near": float(cameras.near),
        "far": float(cameras.far),
        "dilated": cameras.dilated,
        "frames": frames,
    }


def load_cameras(path: str | Path) -> Cameras:
    """Read cameras, of a JSON file or a page; photographs that are not there become None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged; says which frame and field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of cameras at {path}")
    try:
        content = _in_page(path) if is_page(path) else json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no JSON file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path} holds no cameras: it has no list named frames")
    near, far = (_number(content, key, str(path)) for key in ("near", "far"))
    if not 0 < near < far:
        raise ValueError(f"{path}: near {near} and far {far} found, expected 0 < near < far")
    frames = [_frame(entry, i, path) for i, entry in enumerate(content["frames"])]
    if not frames:
        raise ValueError(f"{path} holds no cameras: its list of frames is empty")
    return Cameras(frames, near, far, dilated=content.get("dilated") is True)


def cameras_of(splat: str | Path) -> Path | None:
    """The file of cameras that goes with a splat file, if there is one; a page has its own."""
    splat = Path(splat)
    if is_page(splat):
        try:
            return splat if _in_page(splat) else None
        except ValueError:
            return splat  # whoever loads them hears of the damage
    stems = (splat.stem, splat.stem.removesuffix(".compressed"))
    names = (*(f"{stem}.{FILE_NAME}" for stem in stems), FILE_NAME)
    return next((path for path in map(splat.with_name, names) if path.is_file()), None)


def _in_page(page: Path) -> Any:
    about = json_in(page, "about")
    return about.get("world") if isinstance(about, dict) else None


def _frame(entry: Any, number: int, path: Path) -> Frame:
    where = f"{path}: frame {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is no JSON object")
    extrinsics = _matrix(entry, "extrinsics", 4, where)
    rotation = extrinsics[:3, :3].double()
    if not torch.allclose(rotation @ rotation.mT, torch.eye(3).double(), atol=1e-3):
        raise ValueError(f"{where}: the upper left 3x3 of extrinsics is no rotation")
    intrinsics = _matrix(entry, "intrinsics", 3, where)
    if not well_formed(intrinsics):
        raise ValueError(
            f"{where}: intrinsics are {intrinsics.tolist()}, expected [[fx, skew, cx], "
            "[0, fy, cy], [0, 0, 1]] with positive focal lengths"
        )
    width, height = (int(_number(entry, key, where)) for key in ("width", "height"))
    if width < 1 or height < 1:
        raise ValueError(f"{where}: a size of {width}x{height} pixels found")
    image = entry.get("image")
    image = path.parent / image if isinstance(image, str) else None
    if image is not None and not image.is_file():
        image = None
    return Frame(str(entry.get("name", number)), extrinsics, intrinsics, width, height, image)


def _number(entry: dict[str, Any], key: str, where: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where}: {key} is {value!r}, expected a number")
    return float(value)


def _matrix(entry: dict[str, Any], key: str, size: int, where: str) -> Tensor:
    try:
        matrix = torch.tensor(entry.get(key), dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        matrix = torch.zeros(0)
    if matrix.shape != (size, size) or not matrix.isfinite().all():
        raise ValueError(f"{where}: {key} is not a {size}x{size} matrix of finite numbers")
    return matrix
