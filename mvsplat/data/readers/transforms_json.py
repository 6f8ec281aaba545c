"""Scenes of ``transforms.json``, as nerfstudio, instant-ngp and Blender's NeRF scripts write it.

``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward). Intrinsics
are the file's or, where a frame has its own, the frame's: ``fl_x fl_y cx cy w h`` in pixels, or
``camera_angle_x`` (and ``_y``) in radians; distortion ``k1 k2 k3 k4 p1 p2`` is Brown's (OpenCV), or
the fisheye's with ``camera_model: OPENCV_FISHEYE`` or ``is_fisheye``.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.readers.distortion import Brown, Distortion, Fisheye
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.photos import Photo, PhotoScene, picture_size
from mvsplat.data.readers.single import SingleScene
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import inside, is_file, read_json
from mvsplat.data.wording import MISSING

_SINGLE = "transforms.json"
_PARTS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_SUFFIXES = (".png", ".jpg", ".jpeg")
_SMALLER = ("images_2", "images_4", "images_8")
_PERSPECTIVE = {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"}
_FISHEYE = {"OPENCV_FISHEYE", "FISHEYE"}
_TO_OPENCV = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


class TransformsScenes(SingleScene):
    """Pictures with cameras in a transforms.json (nerfstudio, instant-ngp, Blender).

    Distorted pictures are undistorted, transparent ones put on white, frames without a picture
    left out and reported. Blender's transforms_train, _val and _test.json together are one scene.

    Args:
        root: The scene's folder, or the file itself.
        split: The split that has the scene; the other one is empty.
        key: What to call it; the folder's name by default.
        follow_links: Also take pictures that symbolic links out of the folder lead to; only for
            data you trust.
    """

    def __init__(
        self,
        root: str,
        split: Split = "test",
        key: str | None = None,
        follow_links: bool = False,
    ) -> None:
        path = Path(root)
        self._file = path if path.suffix.lower() == ".json" else None
        super().__init__(str(path if self._file is None else path.parent), split, key, follow_links)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the folder holds such a file, or is one."""
        return path.suffix.lower() == ".json" or bool(_files(path))

    def _read(self) -> PhotoScene:
        files = [self._file] if self._file is not None else _files(self.root)
        if not files:
            raise FileNotFoundError(f"{self.root} holds no {_SINGLE}, nor {', '.join(_PARTS)}")
        photos: list[Photo] = []
        missing: list[str] = []
        load_points = None
        for file in files:
            content = read_json(file)
            frames = content.get("frames")
            if not isinstance(frames, list) or not frames:
                raise ValueError(f"{file}: frames is missing or empty, expected a list of frames")
            for number, frame in enumerate(frames):
                try:
                    photo = self._photo(content, frame)
                except ValueError as error:
                    raise ValueError(f"{file}, frame {number}: {error}") from error
                if isinstance(photo, Photo):
                    photos.append(photo)
                else:
                    missing.append(photo)
            if isinstance(name := content.get("ply_file_path"), str):
                load_points = partial(_points, inside(self.root, name, self.follow_links))
        return PhotoScene(
            self.key,
            photos,
            origin=files[0],
            load_points=load_points,
            left_out={MISSING: missing} if missing else {},
        )

    def _photo(self, shared: Mapping[str, Any], frame: Any) -> Photo | str:
        """A frame, or the name of its picture where that is missing."""
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise ValueError("it has no file_path")
        name = frame["file_path"]
        path = self._picture(name)
        if path is None:
            return name
        fields = {**shared, **frame}
        size = _size(fields) or picture_size(path)
        extrinsics = _extrinsics(frame.get("transform_matrix"))
        return Photo(path, _plain(name), _lens(fields, size), extrinsics)

    def _picture(self, name: str) -> Path | None:
        """The file of a frame: as named, with a suffix, or in a folder of smaller pictures."""
        path = inside(self.root, _plain(name), self.follow_links)
        if is_file(path):
            return path
        if path.suffix.lower() not in _SUFFIXES:
            # Not with_suffix: r_0.5 has no suffix.
            found = [p for s in _SUFFIXES if is_file(p := path.with_name(path.name + s))]
            if found:
                return inside(self.root, str(found[0].relative_to(self.root)), self.follow_links)
        if _plain(name).startswith("images/"):
            for folder in _SMALLER:
                smaller = folder + _plain(name).removeprefix("images")
                if is_file(self.root / smaller):
                    return inside(self.root, smaller, self.follow_links)
        return None


def _files(folder: Path) -> list[Path]:
    if is_file(folder / _SINGLE):
        return [folder / _SINGLE]
    return [folder / name for name in _PARTS if is_file(folder / name)]


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _number(fields: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {str(value)[:50]!r}, expected a number")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} is not finite")
    return value


def _size(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = _number(fields, "w"), _number(fields, "h")
    if width is None or height is None:
        return None
    if not (1 <= width <= 1e6 and 1 <= height <= 1e6):
        raise ValueError(f"w and h are {width:g} and {height:g}, expected a picture's size")
    return round(width), round(height)


def _lens(fields: Mapping[str, Any], size: tuple[int, int]) -> Lens:
    fx = _focal(fields, "fl_x", "camera_angle_x", size[0])
    fy = _focal(fields, "fl_y", "camera_angle_y", size[1])
    fx, fy = fx or fy, fy or fx  # square pixels where one is missing
    if fx is None or fy is None:
        raise ValueError("it has neither fl_x nor camera_angle_x, of its own or of the whole file")
    cx, cy = _number(fields, "cx", size[0] / 2), _number(fields, "cy", size[1] / 2)
    assert cx is not None and cy is not None  # they have defaults
    return Lens.from_pixels((fx, fy), (cx, cy), size, _distortion(fields))


def _focal(fields: Mapping[str, Any], focal: str, angle: str, pixels: int) -> float | None:
    """A focal length in pixels, given as such or as the angle that the picture spans."""
    length = _number(fields, focal)
    if length is not None:
        if length <= 0:
            raise ValueError(f"{focal} is {length:g}; a focal length must be positive")
        return length
    wide = _number(fields, angle)
    if wide is None:
        return None
    if not 0 < wide < math.pi:
        raise ValueError(f"{angle} is {wide:g}, expected an angle between 0 and pi")
    return pixels / 2 / math.tan(wide / 2)


def _distortion(fields: Mapping[str, Any]) -> Distortion | None:
    model = fields.get("camera_model", "OPENCV")
    fisheye = bool(fields.get("is_fisheye")) or model in _FISHEYE
    if not fisheye and model not in _PERSPECTIVE:
        known = ", ".join(sorted(_PERSPECTIVE | _FISHEYE))
        raise ValueError(f"camera_model is {str(model)[:50]!r}, expected one of {known}")
    k1, k2, k3, k4, p1, p2 = (
        _number(fields, name, 0.0) or 0.0 for name in ("k1", "k2", "k3", "k4", "p1", "p2")
    )
    if fisheye:
        return Fisheye(Brown((k1, k2, k3, k4)))  # OpenCV's has no p1 and p2
    if not any((k1, k2, k3, k4, p1, p2)):
        return None
    return Brown((k1, k2, k3, k4), (), (p1, p2))


def _extrinsics(rows: Any) -> Float[Tensor, "4 4"]:
    """Camera-to-world with OpenCV axes, from the JSON's rows."""
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        matrix = torch.empty(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise ValueError("transform_matrix is missing or not of 4 rows of 4 numbers")
    extrinsics = torch.eye(4, dtype=torch.float64)
    extrinsics[: len(matrix)] = matrix
    return extrinsics * _TO_OPENCV


def _points(path: Path) -> Float[Tensor, "p 3"] | None:
    """The points of a PLY file, or None if there is none."""
    from plyfile import PlyData, PlyParseError

    if not is_file(path):
        return None
    try:
        vertices = PlyData.read(str(path))["vertex"].data
        columns = [torch.tensor(vertices[axis].astype("float32")) for axis in "xyz"]
    except (PlyParseError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or no PLY file of points: {error}") from error
    return torch.stack(columns, -1)
