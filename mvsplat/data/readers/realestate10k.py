"""RealEstate10K's original camera files (and ACID's), with frames extracted from the videos.

A camera file's first line is the video's address; every other line is a frame: its time stamp in
microseconds, fx fy cx cy normalised by width and height, two zeros, and the 3x4 world-to-camera
matrix row by row.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mvsplat.data.chunks.fields import unpack_cameras
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.many import ManyScenes
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import is_file, is_folder, read_text
from mvsplat.data.wording import MISSING

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class RealEstate10KScenes(ManyScenes):
    """RealEstate10K's or ACID's camera text files, with the frames extracted from the videos.

    Camera files are train/KEY.txt and test/KEY.txt under the root (also under RealEstate10K/ or
    cameras/ in it), or KEY.txt in the root itself, which then are the test split. Frames are
    pictures named after their time stamps, in a folder KEY of the split. Frames without a picture
    are left out and reported; so are scenes without any.

    Args:
        root: The folder of the camera files.
        frames: The folder of the frames, FRAMES/SPLIT/KEY/TIMESTAMP.png (or .jpg) or
            FRAMES/KEY/TIMESTAMP.png; beside the camera files or in frames/ by default.
    """

    def __init__(self, root: str = "datasets/RealEstate10K", frames: str | None = None) -> None:
        super().__init__()
        self.root = Path(root)
        self.frames = None if frames is None else Path(frames)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether a folder holds camera files."""
        return any(_camera_folder(path, split) is not None for split in ("train", "test"))

    def _find(self, split: Split) -> Mapping[str, Path]:
        folders = {name: _camera_folder(self.root, name) for name in ("train", "test")}
        if not any(folders.values()):
            raise FileNotFoundError(
                f"{self.root} holds no RealEstate10K camera files: expected train/KEY.txt and "
                "test/KEY.txt"
            )
        folder = folders[split]
        files = sorted(folder.glob("*.txt")) if folder is not None else []
        return {path.stem: path for path in files}

    def _read(self, split: Split, key: str, path: Path) -> PhotoScene:
        folder = self._frame_folder(split, key, path)
        photos, missing = [], []
        for stamp, lens, extrinsics in read_cameras(path):
            picture = _picture(folder, stamp)
            if picture is None:
                missing.append(stamp)
            else:
                photos.append(Photo(picture, stamp, lens, extrinsics))
        if missing and not photos:
            raise ValueError(f"{path}: none of its {len(missing)} frames is in {folder}")
        left_out = {MISSING: missing} if missing else {}
        return PhotoScene(key, photos, origin=path, left_out=left_out)

    def _frame_folder(self, split: Split, key: str, path: Path) -> Path:
        bases = [self.frames] if self.frames is not None else []
        if not bases:
            bases = [path.parent, self.root / "frames", self.root]
        candidates = [base / part for base in bases for part in (f"{split}/{key}", key)]
        for folder in candidates:
            if is_folder(folder):
                return folder
        return candidates[0]

    def _where(self) -> str:
        return str(self.root)


def read_cameras(path: Path) -> list[tuple[str, Lens, Tensor]]:
    """Time stamp, lens and camera-to-world [4, 4] of each line of a camera file.

    Raises:
        ValueError: A line is damaged or a time stamp is there twice; names the file and the line.
    """
    stamps: dict[str, None] = {}
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).split("\n")[1:], 2):
        words = line.split()
        if not words:
            continue
        try:
            stamp, row = _camera(words)
            if stamp in stamps:
                raise ValueError(f"the time stamp {stamp} is there twice")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        stamps[stamp] = None
        rows.append(row)
    try:
        extrinsics, _ = unpack_cameras(torch.tensor(rows, dtype=torch.float64).view(-1, 18))
        lenses = [Lens((fx, fy), (cx, cy)) for fx, fy, cx, cy, *_ in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return list(zip(stamps, lenses, extrinsics.double(), strict=True))


def _camera(words: list[str]) -> tuple[str, list[float]]:
    if len(words) != 19:
        raise ValueError(f"{len(words)} numbers, expected 19")
    stamp = words[0]
    if not (stamp.isdecimal() and stamp.isascii() and len(stamp) <= 20):
        raise ValueError(f"{stamp[:50]!r} is no time stamp")
    return stamp, [float(word) for word in words[1:]]


def _picture(folder: Path, stamp: str) -> Path | None:
    for suffix in _SUFFIXES:
        if is_file(path := folder / f"{stamp}{suffix}"):
            return path
    return None


def _camera_folder(root: Path, split: Split) -> Path | None:
    for base in (root, root / "RealEstate10K", root / "cameras"):
        if _looks_right(base / split):
            return base / split
    if split == "test" and _looks_right(root):
        return root
    return None


def _looks_right(folder: Path) -> bool:
    """Whether the first text file of a folder is a camera file."""
    if not is_folder(folder):
        return False
    first = next(iter(sorted(folder.glob("*.txt"))), None)
    if first is None:
        return False
    with first.open("rb") as file:
        head = file.read(4096).split(b"\n")
    return len(head) > 1 and len(head[1].split()) == 19
