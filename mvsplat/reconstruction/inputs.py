"""What a user hands in, as one scene with cameras: photographs, a video, or data that has them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvsplat.data.readers.opening import UnknownFormat, keys_or_none, open_scenes
from mvsplat.data.scene import Scene, Split
from mvsplat.data.transforms import Shape
from mvsplat.reconstruction import collecting, pictures, video
from mvsplat.reconstruction.cameras.structure_from_motion import CameraEstimate, estimate_cameras
from mvsplat.reconstruction.collecting import LONGEST_SIDE, Collection, photo_paths
from mvsplat.reconstruction.frames import CroppedFrame, read_frame
from mvsplat.reconstruction.pictures import LoadedPhoto

Progress = Callable[[str, int, int], None]
"""Is told a stage's title, how much is done, and of how much (0: unknown)."""

_SPLITS: tuple[Split, ...] = ("test", "train")
_READING = "Reading photos"


@dataclass
class SceneInput:
    """A scene to reconstruct, and where it came from.

    Args:
        scene: Its frames with cameras.
        names: What to call the frames.
        kind: What was handed in, in words.
        dropped: Why photographs cannot be used, by name.
        notes: What else a user should know.
        estimate: How the cameras were estimated, if they were.
    """

    scene: Scene
    names: list[str]
    kind: str
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    estimate: CameraEstimate | None = None

    def frame(self, index: int, shape: Shape) -> CroppedFrame:
        """Read a photograph and crop it to a model's size."""
        return read_frame(self.scene, index, self.names[index], shape)


def open_input(
    photos: Any,
    work: Path,
    scene: str | None = None,
    frames: int = 40,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> SceneInput:
    """Find out what was handed in, and bring it to a scene with cameras.

    Args:
        photos: A path (a folder of photographs, a video, a COLMAP model, a ``transforms.json``,
            chunks ...), a :class:`mvsplat.data.Scene`, or a sequence of photographs: paths, PIL
            pictures, arrays [h, w, 3].
        work: An empty folder for what must be kept while the scene is in use.
        scene: Which scene, where the data has several.
        frames: How many frames of a video to take.
        seed: Of the camera estimation.
        progress: Is told how far which stage is.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It is nothing that can be reconstructed; says why, and what would be.
    """
    if isinstance(photos, Scene):
        return _with_cameras(photos, "a scene")
    if not isinstance(photos, (str, Path)):
        return _without_cameras(_listed(photos), len(photos), "photos", work, seed, progress)
    path = Path(photos)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.is_file() and path.suffix.lower() in video.SUFFIXES:
        sharp = video.sharp_frames(path, frames, LONGEST_SIDE)
        return _without_cameras(sharp, frames, f"video {path.name}", work, seed, progress)
    if path.is_file() and path.suffix.lower() in pictures.SUFFIXES:
        raise ValueError(f"{path} is a single photo; expected a folder of at least two, or a video")
    try:
        return _from_data(path, scene)
    except UnknownFormat:
        if path.is_file():
            raise
    return _from_folder(path, work, seed, progress)


def _from_data(path: Path, wanted: str | None) -> SceneInput:
    """Data with cameras, in any format that the readers know."""
    source = open_scenes(path)
    keys = [(split, key) for split in _SPLITS for key in keys_or_none(source, split)]
    if not keys:
        raise ValueError(f"{path} holds no scenes")
    notes = []
    if wanted is None:
        split, key = keys[0]
        if len(keys) > 1:
            notes.append(f"{path} holds {len(keys)} scenes; this is {key} (--scene chooses)")
    else:
        found = [(split, key) for split, key in keys if key == wanted]
        if not found:
            known = ", ".join(key for _, key in keys[:5])
            raise ValueError(f"{path} has no scene {wanted!r}; it has {known}, {len(keys)} in all")
        split, key = found[0]
    result = _with_cameras(source.scene(split, key), f"{path.name}, with cameras")
    result.notes += notes
    return result


def _with_cameras(scene: Scene, kind: str) -> SceneInput:
    names = [str(name) for name in scene.frame_names or range(len(scene))]
    dropped = {name: reason for reason, found in scene.left_out.items() for name in found}
    if len(scene) < 2:
        raise ValueError(f"{kind}: the scene has {len(scene)} frame; at least two are needed")
    return SceneInput(scene, names, kind, dropped)


def _from_folder(path: Path, work: Path, seed: int, progress: Progress) -> SceneInput:
    found = photo_paths(path)
    if not found:
        films = [p.name for p in sorted(path.iterdir()) if p.suffix.lower() in video.SUFFIXES]
        there = [p.name for p in sorted(path.iterdir()) if p.is_dir() and photo_paths(p)]
        hint = f"; did you mean {path / (films + there)[0]}?" if films or there else ""
        raise ValueError(
            f"{path} holds no photos: expected files such as .jpg or .png, or cameras beside them "
            f"(sparse/0 of COLMAP, transforms.json){hint}"
        )
    folder = "/".join(path.resolve().parts[-2:])
    return _without_cameras(found, len(found), f"photos in {folder}", work, seed, progress)


def _without_cameras(
    photos: Sequence[Path | LoadedPhoto] | Iterator[LoadedPhoto],
    count: int,
    kind: str,
    work: Path,
    seed: int,
    progress: Progress,
) -> SceneInput:
    """Photographs whose cameras must be estimated."""
    collection = collecting.collect(
        photos, work / "images", lambda done, total: progress(_READING, done, total), count
    )
    if len(collection.photos) < 2:
        raise ValueError(_too_few(kind, collection))
    estimate = estimate_cameras(collection, work, seed, progress)
    source = open_scenes(estimate.folder, "colmap")
    scene = source.scene("test", source.keys("test")[0])
    by_file = {photo.file: photo.name for photo in collection.photos}
    names = [by_file[name] for name in scene.frame_names or ()]
    dropped = collection.dropped | estimate.dropped
    return SceneInput(scene, names, kind, dropped, estimate=estimate)


def _too_few(kind: str, collection: Collection) -> str:
    total = len(collection.photos) + len(collection.dropped)
    usable = "one can" if collection.photos else "none can"
    lines = [f"{kind}: of {total} {usable} be used, at least two are needed"]
    dropped = list(collection.dropped.items())
    if len(dropped) > 1 and all("shows the same" in reason for _, reason in dropped):
        lines = [
            f"{kind}: all {total} show the same picture; depth needs photos from places a step "
            "apart"
        ]
    else:
        lines += [f"  {name}: {reason}" for name, reason in dropped[:3]]
    return "\n".join(lines)


def _listed(photos: Any) -> list[Path | LoadedPhoto]:
    """A user's own sequence of photographs."""
    if not isinstance(photos, (list, tuple)):
        photos = list(chain(photos))
    return [_one(photo, number) for number, photo in enumerate(photos)]


def _one(photo: Any, number: int) -> Path | LoadedPhoto:
    if isinstance(photo, (str, Path)):
        if not Path(photo).is_file():
            raise FileNotFoundError(f"there is no photo {photo}")
        return Path(photo)
    name = f"photo_{number:03d}"
    if isinstance(photo, Image.Image):
        picture = pictures.prepare(photo, LONGEST_SIDE, photo.getexif().get(0x0112, 1))
        return LoadedPhoto(name, picture, camera=f"{picture.size}")
    pixels = np.asarray(photo)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"photo {number} is an array {pixels.shape} of {pixels.dtype}; expected [height, "
            "width, 3] of uint8, a PIL picture, or a path"
        )
    return LoadedPhoto(name, Image.fromarray(pixels), camera=f"{pixels.shape}")
