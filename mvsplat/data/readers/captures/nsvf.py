"""NSVF's layout (Liu et al. 2020; Tanks and Temples), NeRF++'s and ScanNet's: a text a pose.

``pose/NAME.txt`` is the 4 x 4 camera-to-world matrix with OpenCV's axes of ``rgb/NAME.png``
(ScanNet: ``color``). Intrinsics, in pixels: one matrix for all in ``intrinsics.txt`` (rows of 4
numbers, or NSVF's one line of focal length and principal point) or
``intrinsic/intrinsic_color.txt`` (ScanNet), or a matrix a picture in ``intrinsics/NAME.txt``
(NeRF++).
"""

from functools import partial
from pathlib import Path

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    load_matrix,
    numbers,
    pictures_by_stem,
)
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.picture_files import picture_size
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder, read_text

_PICTURES = ("rgb", "color", "images")
_SHARED = ("intrinsics.txt", "intrinsic.txt", "intrinsic/intrinsic_color.txt")


class NSVFReader(Reader):
    """Poses and intrinsics in text files."""

    expected = "NSVF, NeRF++ or ScanNet data (pose/NAME.txt and intrinsics.txt beside rgb/)"

    def recognises(self, path: Path) -> bool:
        return (
            bool(_poses(path))
            and _pictures(path) is not None
            and (_shared(path) is not None or is_folder(path / "intrinsics"))
        )

    def nearly(self, path: Path) -> str | None:
        if not _poses(path):
            return None
        missing = [] if _pictures(path) else ["rgb/ (or color/) with the pictures"]
        if _shared(path) is None and not is_folder(path / "intrinsics"):
            missing.append("intrinsics.txt")
        return (
            f"{path / 'pose'} has poses in text files, as NSVF's data, but these are missing: "
            + " and ".join(missing)
        )

    def read(self, path: Path) -> Scene:
        folder, shared = _pictures(path), _shared(path)
        if folder is None:
            raise FileNotFoundError(f"{path} holds no rgb/ or color/ with pictures")
        pictures = pictures_by_stem(folder)
        frames = Frames(path / "pose")
        for file in _poses(path):
            intrinsics = shared or path / "intrinsics" / file.name
            picture = pictures.get(file.stem)
            camera = partial(_camera, intrinsics, file, picture or folder)
            frames.add(file.stem, picture, camera)
        return frames.scene(path.name)


def _camera(intrinsics: Path, pose: Path, picture: Path) -> tuple[Lens, Pose]:
    return _lens(intrinsics, picture), _pose(pose)


def _pose(file: Path) -> Pose:
    matrix = load_matrix(file, read_text(file))
    if matrix.shape == (1, 16):
        matrix = matrix.reshape(4, 4)
    return numbers(matrix, (4, 4), f"{file.name}")


def _lens(file: Path, picture: Path) -> Lens:
    text = read_text(file)
    first = load_matrix(file, text.strip().split("\n")[0])
    if first.shape == (1, 4) and first[0, 1] != 0 and first[0, 3] == 0:
        fx, cx, cy, _ = first[0]  # NSVF's short form; what follows are its bounds
        fy = fx
    else:
        matrix = load_matrix(file, text)
        if matrix.size in (9, 16):
            matrix = matrix.reshape(int(matrix.size**0.5), -1)
        if matrix.shape not in ((3, 3), (3, 4), (4, 4)):
            raise ValueError(f"{file} is no matrix of intrinsics: {list(matrix.shape)} numbers")
        if abs(matrix[0, 1]) > 1e-3 * abs(matrix[0, 0]):
            raise ValueError(f"{file} has a skew of {matrix[0, 1]:g}, which is not supported")
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    return Lens.from_pixels((float(fx), float(fy)), (float(cx), float(cy)), picture_size(picture))


def _poses(path: Path) -> list[Path]:
    return [file for file in entries(path / "pose") if file.suffix == ".txt"]


def _pictures(path: Path) -> Path | None:
    return next((path / name for name in _PICTURES if is_folder(path / name)), None)


def _shared(path: Path) -> Path | None:
    return next((path / name for name in _SHARED if is_file(path / name)), None)
