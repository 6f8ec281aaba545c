"""Photographs without cameras: read from a folder, a list or a video, checked, put in one place.

What can be used is written, upright and without metadata, to a folder that structure from motion
reads, and masks of what does not count to a folder beside it; what cannot is dropped with a reason.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mvsplat.data.picture_formats import NAMED_SUFFIXES
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.masks import FOLDER as MASKS
from mvsplat.machine import usable_cores
from mvsplat.reconstruction.pictures import LoadedPhoto, load_photo
from mvsplat.reconstruction.quality import blur, fingerprint, same_picture

# Structure from motion gains nothing from more, and takes the longer.
LONGEST_SIDE = 1600

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""


@dataclass
class PhotoFile:
    """A photograph that can be used, in the working folder.

    Args:
        name: What the user calls it.
        file: Its file's name in the working folder.
        width: In pixels.
        height: In pixels.
        focal_length: From EXIF, in pixels, if it is known.
        camera: What tells cameras apart.
        blur: How blurred it is, 0 to 1.
        masked: Whether some of its pixels do not count.
    """

    name: str
    file: str
    width: int
    height: int
    focal_length: float | None
    camera: str
    blur: float
    masked: bool = False


@dataclass
class Collection:
    """What was found.

    Args:
        folder: Where the files are.
        photos: The photographs that can be used, in the order of their names or of time.
        dropped: Why others cannot be used, by name.
        ordered: Whether neighbours are neighbours in time, as in a video.
    """

    folder: Path
    photos: list[PhotoFile] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    ordered: bool = False

    @property
    def masks(self) -> Path:
        """Where the masks are, those of ``a.jpg`` as ``a.jpg.png``: as COLMAP has them."""
        return self.folder.parent / MASKS


def photo_paths(folder: Path) -> list[Path]:
    """The files of a folder that are named like pictures, in natural order (2 before 10)."""
    chosen = [
        path for path in entries(folder) if path.suffix.lower() in NAMED_SUFFIXES and path.is_file()
    ]
    return sorted(chosen, key=_natural)


def collect(
    photos: Sequence[Path | LoadedPhoto] | Iterator[LoadedPhoto],
    folder: Path,
    progress: Progress = lambda done, total: None,
    total: int | None = None,
    ordered: bool = False,
) -> Collection:
    """Read photographs, several at a time, and write those that can be used.

    Args:
        photos: Files, or pictures that have been read already.
        folder: Where to write them.
        progress: Is told how many have been read.
        total: How many there are, where ``photos`` cannot tell.
        ordered: Whether they follow each other in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(photos) if isinstance(photos, Sequence) else total or 0
    collection = Collection(folder, ordered=ordered)
    fingerprints: list[tuple[str, np.ndarray]] = []
    for done, (name, result) in enumerate(_read_all(photos, folder), start=1):
        if isinstance(result, str):
            collection.dropped[name] = result
        else:
            photo, print_ = result
            same = next((n for n, other in fingerprints if same_picture(print_, other)), None)
            if same is not None:
                collection.dropped[name] = f"shows the same as {same}"
                (folder / photo.file).unlink()
                if photo.masked:
                    (collection.masks / f"{photo.file}.png").unlink()
            else:
                fingerprints.append((name, print_))
                collection.photos.append(photo)
        progress(done, max(done, count))
    return collection


def _read_all(
    photos: Iterable[Path | LoadedPhoto], folder: Path
) -> Iterator[tuple[str, str | tuple[PhotoFile, np.ndarray]]]:
    """Of each photograph in turn its name, and its file or what is wrong with it.

    No more than the threads can read are held in memory: a video's frames arrive one at a time.
    """
    threads = min(usable_cores(), 8)
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[tuple[str, Future]] = []
        for number, photo in enumerate(photos):
            name = photo.name
            waiting.append((name, pool.submit(partial(_read, photo, folder, number))))
            if len(waiting) > threads:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _read(
    photo: Path | LoadedPhoto, folder: Path, number: int
) -> str | tuple[PhotoFile, np.ndarray]:
    try:
        read = photo if isinstance(photo, LoadedPhoto) else load_photo(photo, LONGEST_SIDE)
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"{photo}: ")
    image, mask = read.image, read.mask
    if max(image.size) > LONGEST_SIDE:
        image = image.copy()
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = f"{number:05d}.jpg"
    image.save(folder / file, quality=96, subsampling=0)
    if mask is not None:
        masks = folder.parent / MASKS
        masks.mkdir(exist_ok=True)
        mask.resize(image.size, Image.Resampling.NEAREST).save(masks / f"{file}.png")
    diagonal = float(np.hypot(*image.size))
    focal = None if read.focal_length is None else read.focal_length * diagonal
    entry = PhotoFile(
        read.name, file, *image.size, focal, read.camera, blur(image), masked=mask is not None
    )
    return entry, fingerprint(image)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p.lower()) for p in parts]
