"""RealEstate10K's original camera files (and ACID's), with frames extracted from the videos.

A camera file's first line is the video's address; every other line is a frame: its time stamp in
microseconds, fx fy cx cy normalised by width and height, two zeros, and the 3x4 world-to-camera
matrix row by row.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from mvsplat.data.camera_checks import camera_problems
from mvsplat.data.left_out import MISSING, LeftOut
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.finding import Found, find_pictures
from mvsplat.data.readers.folder_listing import Listing
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.many import ManyScenes
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.picture_search import TwoFit
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import is_folder, read_text

# The published files' names; those are not opened to see what they are.
_KEY = re.compile("[0-9a-f]{16}")
# Between two frames of a video, in microseconds: 24 a second.
_LONGEST_GAP = 41_667


class RealEstate10KScenes(ManyScenes):
    """RealEstate10K's or ACID's camera text files, with the frames extracted from the videos.

    Camera files are train/KEY.txt and test/KEY.txt under the root (also under RealEstate10K/ or
    cameras/ in it), or KEY.txt in the root itself, which then are the test split. Frames are
    pictures named after their time stamps, in a folder KEY of the split; a name may differ by less
    than half the time between frames. Frames without a picture or with a damaged line are left out
    and reported; so are scenes without any.

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
        return {path.stem: path for path in (_camera_files(folder) if folder is not None else ())}

    def _read(self, split: Split, key: str, path: Path) -> PhotoScene:
        folder = self._frame_folder(split, key, path)
        cameras, left_out = read_cameras(path)
        found = find_pictures([stamp for stamp, _, _ in cameras], folder, [folder], lambda: [])
        _find_nearest(found, [stamp for stamp, _, _ in cameras], folder)
        if cameras and not found.paths:
            raise ValueError(
                f"{path}: none of its {len(cameras)} frames is in {folder}, nor in "
                f"{self.root / 'frames'}: expected pictures such as frames/{split}/{key}/"
                f"{cameras[0][0]}.png, extracted from the video; {found.looked}"
            )
        photos = [
            Photo(found.paths[stamp], stamp, lens, extrinsics)
            for stamp, lens, extrinsics in cameras
            if stamp in found.paths
        ]
        return PhotoScene(key, photos, origin=path, left_out=left_out, found=found)

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


def read_cameras(path: Path) -> tuple[list[tuple[str, Lens, Tensor]], LeftOut]:
    """Time stamp, lens and camera-to-world [4, 4] of each line of a camera file that makes sense.

    Returns:
        The cameras; and the time stamps of the other lines, by what is wrong with them.

    Raises:
        ValueError: It is no text file.
    """
    rows: dict[str, list[float]] = {}
    places: list[int] = []
    left_out = LeftOut()
    for number, line in enumerate(read_text(path).split("\n")[1:], 2):
        words = line.split()
        if not words:
            continue
        try:
            stamp, row = _camera(words)
            if stamp in rows:
                raise ValueError(f"the time stamp {stamp} is there twice")
        except ValueError as error:
            left_out.add(f"{path.name}, line {number}: {error}", words[0])
            continue
        rows[stamp] = row
        places.append(number)
    numbers = torch.tensor(list(rows.values()), dtype=torch.float64).view(-1, 18)
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    world_to_camera[:, :3] = numbers[:, 6:].unflatten(1, (3, 4))
    problems = camera_problems(world_to_camera, _intrinsics(numbers))
    stamps = list(rows)
    for position, problem in problems.items():
        reason = f"{path.name}, line {places[position]}: its camera {problem}"
        left_out.add(reason, stamps[position])
    good = [position for position in range(len(rows)) if position not in problems]
    extrinsics = torch.linalg.inv(world_to_camera[good])
    kept = [stamps[position] for position in good]
    lenses = [Lens((row[0], row[1]), (row[2], row[3])) for row in map(rows.__getitem__, kept)]
    return list(zip(kept, lenses, extrinsics, strict=True)), left_out


def _intrinsics(rows: Tensor) -> Tensor:
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(len(rows), 1, 1)
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = rows[:, :4]
    return intrinsics


def _find_nearest(found: Found, stamps: list[str], folder: Path) -> None:
    """Find pictures whose time stamps differ by less than half the time between frames."""
    missing = [stamp for stamp in stamps if stamp not in found.paths]
    listing = Listing(folder)
    files = {int(s): n for n in listing.pictures if (s := Path(n).stem).isdecimal() and len(s) < 20}
    taken = set(found.paths.values())
    files = {time: name for time, name in files.items() if folder / name not in taken}
    if not missing or not files:
        return
    times = sorted(map(int, stamps))
    gaps = sorted(b - a for a, b in pairwise(times))
    gap = min([_LONGEST_GAP, *gaps[len(gaps) // 2 :][:1]])
    there = sorted(files)
    nearest = {stamp: _nearest(int(stamp), there, gap) for stamp in missing}
    of_time: dict[int, str] = {}
    for stamp, time in nearest.items():
        # Of two frames, a picture is the nearer one's.
        if time is not None and (
            time not in of_time or abs(time - int(stamp)) < abs(time - int(of_time[time]))
        ):
            of_time[time] = stamp
    for time, stamp in of_time.items():
        found.paths[stamp] = folder / files[time]
    still = [stamp for stamp in missing if stamp not in found.paths]
    found.left_out = LeftOut({MISSING: still} if still else {})
    if of_time:
        time, stamp = next(iter(of_time.items()))
        found.notes.append(
            f"{len(of_time)} pictures are named after another time, by less than half of that "
            f"between frames: {stamp} is taken from {files[time]}"
        )


def _nearest(stamp: int, times: list[int], gap: int) -> int | None:
    """The time, of sorted ones, that is nearest, if it is near enough."""
    place = bisect(times, stamp)
    near = sorted((abs(time - stamp), time) for time in times[max(0, place - 1) : place + 1])
    near = [pair for pair in near if pair[0] * 2 < gap]
    if len(near) > 1 and near[0][0] == near[1][0]:
        raise TwoFit(
            f"two pictures fit the time stamp {stamp}: those of {near[0][1]} and {near[1][1]}"
        )
    return near[0][1] if near else None


def _camera(words: list[str]) -> tuple[str, list[float]]:
    if len(words) != 19:
        raise ValueError(f"{len(words)} numbers, expected 19")
    stamp = words[0]
    if not (stamp.isdecimal() and stamp.isascii() and len(stamp) <= 20):
        raise ValueError(f"{stamp[:50]!r} is no time stamp")
    return stamp, [float(word) for word in words[1:]]


def _camera_folder(root: Path, split: Split) -> Path | None:
    for base in (root, root / "RealEstate10K", root / "cameras"):
        if _looks_right(base / split):
            return base / split
    if split == "test" and _looks_right(root):
        return root
    return None


def _looks_right(folder: Path) -> bool:
    """Whether a folder holds a camera file."""
    return next(_camera_files(folder), None) is not None


def _camera_files(folder: Path) -> Iterator[Path]:
    """A folder's camera files, without other texts that lie beside them."""
    for path in entries(folder):
        if path.suffix == ".txt" and (_KEY.fullmatch(path.stem) or _begins_with_cameras(path)):
            yield path


def _begins_with_cameras(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096).split(b"\n")
    return len(head) > 1 and len(head[1].split()) == 19
