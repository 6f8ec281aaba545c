"""LLFF's ``poses_bounds.npy`` with pictures in order (Mildenhall et al. 2019; NeRF's real scenes).

A row of 17 numbers a picture, in the order of the pictures' names: a 3 x 5 matrix row by row, whose
columns are the camera's down, right and backward axes in the world, its position, and (height,
width, focal length) in pixels of the full size; then the nearest and the farthest depth. Pictures
are in ``images``, or reduced in ``images_4``, ``images_8``, under names of their own; a COLMAP
model beside them then belongs to them by the order of its names.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    colmap_camera,
    load_array,
    numbers,
    pictures_in,
    rigid,
)
from mvsplat.data.readers.colmap import ColmapScenes
from mvsplat.data.readers.colmap_model import ColmapModel
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder

_MODELS = ("sparse/0", "sparse")
_FOLDERS = ("images", "images_2", "images_4", "images_8")


class LLFFReader(Reader):
    """LLFF data."""

    expected = "LLFF data (poses_bounds.npy beside images/)"

    def recognises(self, path: Path) -> bool:
        """Not where a COLMAP model's own pictures are there, too: that says more."""
        if not is_file(path / "poses_bounds.npy") or not _folders(path):
            return False
        return not (is_folder(path / "images") and ColmapScenes.recognises(path))

    def nearly(self, path: Path) -> str | None:
        if is_file(path / "poses_bounds.npy"):
            return (
                f"{path / 'poses_bounds.npy'} has LLFF's cameras, but their pictures are missing: "
                f"expected them in {', '.join(f'{name}/' for name in _FOLDERS)}"
            )
        return None

    def read(self, path: Path) -> Scene:
        file = path / "poses_bounds.npy"
        rows = load_array(file)
        if rows.ndim != 2 or rows.shape[1] != 17:
            raise ValueError(f"{file} has the shape {list(rows.shape)}, expected [pictures, 17]")
        pictures = _matching(path, len(rows), file)
        models = [model for part in _MODELS for model in ColmapModel.all_in(path / part)]
        model = models[0] if models else None
        images = [] if model is None else sorted(model.images(), key=lambda image: image.name)
        if model is not None and len(images) == len(pictures):
            lenses = model.cameras()
            cameras = [partial(colmap_camera, lenses, image) for image in images]
        else:
            cameras = [partial(_camera, row) for row in rows]
        frames = Frames(file)
        for picture, camera in zip(pictures, cameras, strict=True):
            frames.add(picture.name, picture, camera)
        near, far = (float(bound) for bound in (rows[:, 15].min(), rows[:, 16].max()))
        bounds = {"near": near, "far": far} if 0 < near < far < np.inf else {}
        return frames.scene(path.name, ordered=True, **bounds)


def _camera(row: np.ndarray) -> tuple[Lens, Pose]:
    matrix = numbers(row[:15], (15,), "a row").view(3, 5)
    down, right, backward, position, (height, width, focal) = matrix.unbind(1)
    pose = rigid(torch.stack([right, down, -backward], 1).numpy(), position.numpy())
    size = round(float(width)), round(float(height))
    focal = float(focal)
    return Lens.from_pixels((focal, focal), (size[0] / 2, size[1] / 2), size), pose


def _folders(path: Path) -> list[Path]:
    return [path / name for name in _FOLDERS if is_folder(path / name)]


def _matching(path: Path, count: int, file: Path) -> list[Path]:
    """The pictures of the first folder that has as many as there are cameras, sorted by name."""
    counts = []
    for folder in _folders(path):
        pictures = sorted(pictures_in(folder))
        if len(pictures) == count:
            return pictures
        counts.append(f"{folder.name}/ has {len(pictures)}")
    raise ValueError(
        f"{file} has {count} cameras, but {' and '.join(counts) or 'no folder has'} pictures; they "
        "belong together by their order, so that the numbers must be the same"
    )
