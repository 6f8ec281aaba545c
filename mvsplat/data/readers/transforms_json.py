"""Scenes of ``transforms.json``, as nerfstudio, instant-ngp and Blender's NeRF scripts write it.

``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward). Intrinsics
are the file's or, where a frame has its own, the frame's: ``fl_x fl_y cx cy w h`` in pixels, or
``camera_angle_x`` (and ``_y``) in radians; camera models and distortion are those of
:mod:`mvsplat.data.readers.transforms_lens`. A frame's ``mask_path``, relative to the file, is a
picture with black where pixels do not count.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.left_out import LeftOut
from mvsplat.data.readers.finding import find_file, find_pictures
from mvsplat.data.readers.folder_listing import Listings
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.picture_files import picture_size
from mvsplat.data.readers.picture_search import SMALLER
from mvsplat.data.readers.single import SingleScene
from mvsplat.data.readers.transforms_lens import frame_lens, frame_size
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import is_file, read_json

_SINGLE = "transforms.json"
_PARTS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_TO_OPENCV = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


class TransformsScenes(SingleScene):
    """Pictures with cameras in a transforms.json (nerfstudio, instant-ngp, Blender).

    Distorted pictures are undistorted, transparent ones put on white, frames without a picture or
    with a damaged camera left out and reported. Blender's transforms_train, _val and _test.json
    together are one scene.

    Args:
        root: The scene's folder, or the file itself.
        split: The split that has the scene; the other one is empty.
        key: What to call it; the folder's name by default.
        follow_links: Also take pictures that symbolic links out of the folder lead to.
    """

    def __init__(
        self,
        root: str,
        split: Split = "test",
        key: str | None = None,
        follow_links: bool = True,
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
        left_out = LeftOut()
        notes: dict[str, None] = {}
        frames: list[tuple[Path, str, dict[str, Any]]] = []
        load_points = None
        for file in files:
            content = read_json(file)
            frames += [(file, *frame) for frame in _frames(file, content, left_out)]
            if (points := content.get("ply_file_path")) is not None:
                if path := find_file(str(points), self.root, self.follow_links):
                    load_points = partial(_read_points, path)
                else:
                    note = f"ply_file_path of {file.name} is {str(points)[:100]!r}, which is not "
                    notes.setdefault(f"{note}there: the scene has no sparse points")
        found = find_pictures(
            [name for _, name, _ in frames], self.root, [self.root], None, self.follow_links
        )
        masks = _Masks(self.root, self.follow_links, set(found.paths.values()), notes)
        photos: list[Photo] = []
        for file, name, fields in frames:
            try:
                if path := found.paths.get(name):
                    photo = _photo(path, found.names[name], fields, notes)
                    photos.append(replace(photo, mask=masks.find(file, fields.get("mask_path"))))
            except (ValueError, OSError) as error:
                left_out.add(f"{file.name}: {error}", name)
        return PhotoScene(
            self.key,
            photos,
            origin=files[0],
            load_points=load_points,
            left_out=left_out,
            found=found,
            notes=list(notes),
        )


class _Masks:
    """Finds the masks that frames name, relative to the file; black in them is ignored.

    Args:
        root: The scene's folder.
        follow_links: Whether to take masks that symbolic links out of the folder lead to.
        pictures: The frames' pictures, which are nobody's mask.
        notes: Gets what is to be said of masks that are not there.
    """

    def __init__(
        self, root: Path, follow_links: bool, pictures: set[Path], notes: dict[str, None]
    ) -> None:
        self.root, self.follow_links = root, follow_links
        self.pictures, self.notes = pictures, notes
        self._listings = Listings()
        self._said: set[Path] = set()

    def find(self, file: Path, name: Any) -> Path | None:
        """The mask that a frame of a file names; None where it names none that is there."""
        if not name:
            return None
        path = find_file(str(name), self.root, self.follow_links, self._listings)
        if path is not None and path not in self.pictures:
            return path
        if file not in self._said:
            self._said.add(file)
            self.notes[
                f"mask_path of {file.name} names masks that are not there, such as "
                f"{str(name)[:100]!r}: all pixels of their pictures count"
            ] = None
        return None


def _frames(
    file: Path, content: Mapping[str, Any], left_out: LeftOut
) -> list[tuple[str, dict[str, Any]]]:
    """The names of the frames' pictures with all their fields, their own and the file's."""
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file}: frames is missing or empty, expected a list of frames")
    shared = {name: value for name, value in content.items() if name != "frames"}
    frames = []
    for number, frame in enumerate(entries):
        name = frame.get("file_path") if isinstance(frame, dict) else None
        if isinstance(name, str):
            frames.append((_plain(name), {**shared, "transform_matrix": None, **frame}))
        else:
            left_out.add(f"{file.name}: it has no file_path", f"frame {number}")
    return frames


def _photo(path: Path, name: str, fields: Mapping[str, Any], notes: dict[str, None]) -> Photo:
    size = frame_size(fields) or _full_size(path, name)
    extrinsics = _extrinsics(fields.get("transform_matrix"))
    lens = frame_lens(fields, size, lambda text: notes.setdefault(text, None))
    return Photo(path, name, lens, extrinsics)


def _full_size(path: Path, name: str) -> tuple[int, int]:
    """The size of the picture that is named, also where a smaller one of it is there."""
    width, height = picture_size(path)
    factors = [part[-1] for part in path.parts if part in SMALLER and part not in name.split("/")]
    factor = int(factors[-1]) if factors else 1
    return width * factor, height * factor


def _files(folder: Path) -> list[Path]:
    if is_file(folder / _SINGLE):
        return [folder / _SINGLE]
    return [folder / name for name in _PARTS if is_file(folder / name)]


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _extrinsics(rows: Any) -> Float[Tensor, "4 4"]:
    """Camera-to-world with OpenCV axes, from the JSON's rows."""
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        matrix = torch.empty(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        found = "" if rows is None else f": {str(rows)[:100]}"
        raise ValueError(f"transform_matrix is missing or not of 4 rows of 4 numbers{found}")
    if not matrix.isfinite().all():
        raise ValueError(f"transform_matrix has a number that is not finite: {str(rows)[:200]}")
    extrinsics = torch.eye(4, dtype=torch.float64)
    extrinsics[: len(matrix)] = matrix
    return extrinsics * _TO_OPENCV


def _read_points(path: Path) -> Float[Tensor, "p 3"]:
    """The points of a PLY file."""
    from plyfile import PlyData, PlyParseError

    try:
        vertices = PlyData.read(str(path))["vertex"].data
        columns = [torch.tensor(vertices[axis].astype("float32")) for axis in "xyz"]
    except (PlyParseError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or no PLY file of points: {error}") from error
    return torch.stack(columns, -1)
