"""CO3D (Reizenstein et al. 2021), versions 1 and 2: categories of sequences.

``CATEGORY/frame_annotations.jgz`` is a compressed JSON list of all frames. A viewpoint is
PyTorch3D's: x_camera = x_world R + T for rows, x left, y up, z forward. Its focal length and
principal point are in units of half the picture's shorter side (``ndc_isotropic``) or of half its
width and height (``ndc_norm_image_bounds``, where none is named), counted from the middle to the
left and up.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvsplat.data.readers.captures.frames import Frames, Pose, numbers, rigid
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.finding import find_file
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.many import ManyScenes
from mvsplat.data.readers.photos import PhotoScene
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import SceneSource, Split
from mvsplat.data.untrusted import is_file, is_folder

_NAME = "frame_annotations.jgz"
_LARGEST = 2 << 30
# PyTorch3D's camera axes (left, up) are the negatives of OpenCV's (right, down).
_AXES = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))


class CO3DReader(Reader):
    """A category of CO3D, or a sequence of one."""

    expected = "CO3D sequences (CATEGORY/frame_annotations.jgz)"

    def recognises(self, path: Path) -> bool:
        return is_file(path / _NAME) or is_file(path.parent / _NAME) and is_folder(path / "images")

    def nearly(self, path: Path) -> str | None:
        parts = path.resolve().name.split("_")
        looks_right = len(parts) == 3 and all(part.isdecimal() for part in parts)
        if looks_right and is_folder(path / "images"):
            return (
                f"{path} looks like a CO3D sequence, but {path.parent / _NAME} with its cameras is "
                "missing: fetch it"
            )
        return None

    def open(self, path: Path, split: Split) -> SceneSource:
        return CO3DScenes(str(path), split)


class CO3DScenes(ManyScenes):
    """The sequences of a CO3D category.

    Args:
        root: The category's folder, or one sequence's.
        split: The split that has them; the other one is empty.
    """

    def __init__(self, root: str, split: Split = "test") -> None:
        super().__init__()
        self.root = Path(root)
        self.split = split
        self._frames: dict[str, list[dict[str, Any]]] | None = None

    def _find(self, split: Split) -> Mapping[str, Path]:
        if split != self.split:
            return {}
        if not is_file(self.root / _NAME):
            return {self.root.resolve().name: self.root}
        there = {folder.name: folder for folder in entries(self.root) if is_folder(folder)}
        return {name: there[name] for name in self._sequences() if name in there}

    def _read(self, split: Split, key: str, path: Path) -> PhotoScene:
        category = path.resolve().parent
        found = Frames(path)
        for frame in self._sequences().get(key, ()):
            image = frame.get("image") or {}
            # Named from the data set's root: the category comes first.
            name = str(image.get("path")).removeprefix(f"{category.name}/")
            camera = partial(_camera, frame.get("viewpoint"), image.get("size"))
            found.add(Path(name).name, find_file(name, category), camera)
        return found.scene(key)

    def _sequences(self) -> dict[str, list[dict[str, Any]]]:
        """The annotations' frames, by sequence."""
        if self._frames is None:
            sequences: dict[str, list[dict[str, Any]]] = {}
            category = self.root if is_file(self.root / _NAME) else self.root.resolve().parent
            if not is_file(category / _NAME):
                raise FileNotFoundError(f"neither {self.root} nor the folder above has a {_NAME}")
            for frame in _annotations(category / _NAME):
                if isinstance(frame, dict):
                    sequences.setdefault(str(frame.get("sequence_name")), []).append(frame)
            self._frames = sequences
        return self._frames

    def _where(self) -> str:
        return str(self.root)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_frames": None}


def _annotations(file: Path) -> list[Any]:
    try:
        with gzip.open(file) as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it unpacks to more than {_LARGEST >> 20} MB")
        frames = json.loads(content)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, or no compressed JSON: {error}") from error
    if not isinstance(frames, list):
        raise ValueError(f"{file} holds a {type(frames).__name__}, expected a list of frames")
    return frames


def _camera(viewpoint: Any, size: Any) -> tuple[Lens, Pose]:
    if not isinstance(viewpoint, dict):
        raise ValueError("it has no viewpoint")
    height, width = numbers(size, (2,), "the size").tolist()
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    kind = viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")
    if kind not in ("ndc_isotropic", "ndc_norm_image_bounds"):
        raise ValueError(f"intrinsics_format is {str(kind)[:50]!r}, which is not known")
    unit = half.min() if kind == "ndc_isotropic" else half
    focal = numbers(viewpoint.get("focal_length"), (2,), "focal_length") * unit
    centre = half - numbers(viewpoint.get("principal_point"), (2,), "principal_point") * unit
    # Rows times R are columns times its transpose; then to OpenCV's axes.
    rotation = _AXES @ numbers(viewpoint.get("R"), (3, 3), "R").mT
    translation = _AXES @ numbers(viewpoint.get("T"), (3,), "T")
    pose = rigid(rotation.mT.numpy(), (-rotation.mT @ translation).numpy())
    (fx, fy), (cx, cy) = focal.tolist(), centre.tolist()
    return Lens.from_pixels((fx, fy), (cx, cy), (round(width), round(height))), pose
