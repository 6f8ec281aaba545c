"""DTU as it is published for multi-view stereo (MVSNet's preparation of Jensen et al. 2014).

A camera file has the words ``extrinsic`` (4x4 world-to-camera), ``intrinsic`` (3x3 in pixels) and a
last line of the nearest depth and the depth interval (and, in some, the number of depths and the
farthest depth), in millimetres. Two layouts are published:

* ``scan1/images/00000000.jpg`` with ``scan1/cams/00000000_cam.txt`` (or ``cams_1``);
* ``Rectified/scan1_train/rect_001_3_r5000.png`` (view 1, light 3) with
  ``Cameras/train/00000000_cam.txt``, whose intrinsics are those of pictures a quarter as large.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvsplat.data.left_out import LeftOut
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.finding import find_pictures
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.many import ManyScenes
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.picture_files import picture_size
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import in_natural_order, is_folder, read_text

# The test scans of pixelNeRF (Yu et al. 2021), on which MVSplat is evaluated, too.
TEST_SCANS = (8, 21, 30, 31, 34, 38, 40, 41, 45, 55, 63, 82, 103, 110, 114)
_DEPTHS = 192


class DTUScenes(ManyScenes):
    """DTU's scans as published for multi-view stereo: pictures and camera files.

    The test split is that of pixelNeRF and MVSplat, 15 scans; the train split is every other scan
    that is there. Depth bounds are the camera files', which MVSplat's 2.125 to 4.525 are with the
    default scale.

    Args:
        root: The folder of the scans, or one scan's.
        scale: What the published millimetres are multiplied by.
        light: Which of the 7 lightings to take, where there are several.
        test_scans: Numbers of the test scans.
    """

    def __init__(
        self,
        root: str = "datasets/dtu_mvs",
        scale: float = 1 / 200,
        light: int = 3,
        test_scans: list[int] = list(TEST_SCANS),  # noqa: B006 (only read)
    ) -> None:
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        super().__init__()
        self.root = Path(root)
        self.scale = scale
        self.light = light
        self.test_scans = list(test_scans)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether a folder holds scans or is one."""
        return bool(_scans(path))

    def _find(self, split: Split) -> Mapping[str, Path]:
        scans = _scans(self.root)
        if not scans:
            raise FileNotFoundError(
                f"{self.root} holds no DTU scans: expected scan1/images and scan1/cams, or "
                "Rectified/scan1_train and Cameras/train"
            )
        names = list(scans)
        ordered = [names[position] for position in in_natural_order(names)]
        return {name: scans[name] for name in ordered if self._split(name) == split}

    def _split(self, name: str) -> Split:
        number = re.fullmatch(r"scan(\d{1,6})", name)
        return "test" if number and int(number[1]) in self.test_scans else "train"

    def _read(self, split: Split, key: str, path: Path) -> PhotoScene:
        folder = _camera_folder(path)
        files = {file.name.removesuffix("_cam.txt"): file for file in _camera_files(folder)}
        names = {self._picture_name(path, view): view for view in files}
        found = find_pictures(list(names), path, [path], lambda: [])
        photos, bounds, left_out = [], [], LeftOut()
        for name, view in names.items():
            if name not in found.paths:
                continue
            try:
                extrinsics, intrinsics, limits = read_camera(files[view])
                lens = _lens(intrinsics, picture_size(found.paths[name]))
            except (ValueError, OSError) as error:
                left_out.add(_about(files[view], error), view)
                continue
            extrinsics[:3, 3] *= self.scale
            bounds.append([limit * self.scale for limit in limits])
            photos.append(Photo(found.paths[name], view, lens, extrinsics))
        found.left_out = LeftOut(
            {why: [names[name] for name in missing] for why, missing in found.left_out.items()}
        )
        return PhotoScene(
            key,
            photos,
            origin=folder,
            near=min((low for low, _ in bounds), default=None),
            far=max((high for _, high in bounds), default=None),
            left_out=left_out,
            found=found,
        )

    def _picture_name(self, scan: Path, view: str) -> str:
        if view.isdecimal() and not is_folder(scan / "images"):
            return f"rect_{int(view) + 1:03d}_{self.light}_r5000"
        return f"images/{view}"

    def _where(self) -> str:
        return str(self.root)


def read_camera(path: Path) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """A camera file: camera-to-world [4, 4], intrinsics in pixels [3, 3], nearest and farthest.

    Raises:
        ValueError: The file is damaged; names it and what is wrong.
    """
    words = read_text(path).split()
    try:
        start = words.index("extrinsic") + 1
        world_to_camera = _matrix(words[start : start + 16], 4)
        start = words.index("intrinsic") + 1
        intrinsics = _matrix(words[start : start + 9], 3)
        rest = [float(word) for word in words[start + 9 : start + 13]]
        near, interval = rest[0], rest[1]
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{path} is damaged: expected extrinsic (16 numbers), intrinsic (9 numbers), nearest "
            f"depth and depth interval ({error})"
        ) from error
    far = rest[3] if len(rest) == 4 else near + interval * _DEPTHS
    if not 0 < near < far < float("inf"):
        raise ValueError(
            f"{path}: depths from {near:g} to {far:g}, expected 0 < nearest < farthest"
        )
    if not world_to_camera.isfinite().all() or world_to_camera[:3, :3].det() < 0.5:
        raise ValueError(f"{path}: extrinsic is no rotation and translation")
    return torch.linalg.inv(world_to_camera), intrinsics, (near, far)


def _about(file: Path, error: Exception) -> str:
    """An error with the file it is about, if it does not say so."""
    text = str(error)
    return text if str(file.parent) in text else f"{file.name}: {text}"


def _matrix(words: Sequence[str], size: int) -> Tensor:
    numbers = torch.tensor([float(word) for word in words], dtype=torch.float64)
    if len(numbers) != size * size:
        raise ValueError(f"{len(numbers)} numbers of {size * size}")
    return numbers.view(size, size)


def _lens(intrinsics: Tensor, size: tuple[int, int]) -> Lens:
    """The lens for pictures of a size that may be a power of two times the cameras' own.

    The principal point of every DTU camera is near the middle of the picture.
    """
    (fx, skew, cx), (_, fy, cy), _ = intrinsics.tolist()
    if abs(skew) > 1e-4 * fx:
        raise ValueError(f"the skew is {skew:g}, expected 0: resample the picture to one without")
    if not (cx > 0 and cy > 0):
        raise ValueError(f"the principal point is {cx:g}, {cy:g}, expected positive numbers")
    factor = 2.0 ** round(float(torch.tensor(size[0] / (2 * cx)).log2()))
    return Lens.from_pixels((fx * factor, fy * factor), (cx * factor, cy * factor), size)


def _scans(root: Path) -> dict[str, Path]:
    """Folders of pictures by scan name, in either layout."""
    if not is_folder(root):
        return {}
    if (root / "images").is_dir() and _camera_files(root / "cams"):
        return {root.resolve().name: root}
    rectified = root / "Rectified"
    if rectified.is_dir():
        folders = [f for f in rectified.iterdir() if f.is_dir() and re.match(r"scan\d", f.name)]
        return {folder.name.removesuffix("_train"): folder for folder in folders}
    return {
        folder.name: folder
        for folder in root.iterdir()
        if re.match(r"scan\d", folder.name)
        and (folder / "images").is_dir()
        and _camera_files(folder / "cams")
    }


def _camera_files(folder: Path) -> list[Path]:
    if not is_folder(folder):
        return []
    return [file for file in entries(folder) if file.name.endswith("_cam.txt")]


def _camera_folder(scan: Path) -> Path:
    candidates = [scan / "cams", *(scan.parent.parent / "Cameras" / part for part in ("train", ""))]
    for folder in candidates:
        if _camera_files(folder):
            return folder
    raise FileNotFoundError(f"there are no camera files in {' or '.join(map(str, candidates))}")
