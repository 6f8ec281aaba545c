"""What a user hands in, as one scene with cameras: photographs, a video, or data that has them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvsplat.data.picture_formats import NAMED_SUFFIXES, SUFFIXES
from mvsplat.data.readers import registry
from mvsplat.data.readers.clutter import entries, folders_below
from mvsplat.data.readers.opening import (
    Format,
    GatheredScenes,
    NearlyKnown,
    UnknownFormat,
    open_scenes,
    scene_keys,
)
from mvsplat.data.scene import Scene, SceneSource, Split
from mvsplat.reconstruction import collecting, pictures, video
from mvsplat.reconstruction.cameras.structure_from_motion import estimate_cameras
from mvsplat.reconstruction.collecting import LONGEST_SIDE, Collection, photo_paths
from mvsplat.reconstruction.pictures import LoadedPhoto
from mvsplat.reconstruction.scene_input import SceneInput, check_enough

Progress = Callable[[str, int, int], None]
"""Is told a stage's title, how much is done, and of how much (0: unknown)."""

READING = "Reading photos"
"""The title of a stage."""
_DEPTH = 4
_LOOKED_AT = 500
PHOTOS = "photos"
"""The format that means just the photos."""
_NAMED = 3


def open_input(
    photos: Any,
    work: Path,
    scene: str | None = None,
    frames: int = 40,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
    format: Format = "auto",
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
        format: What is at the path: a reader's name, "photos" for just the photos of a folder,
            whose cameras are estimated even if there are some, or "auto".

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
    if path.is_file() and video.is_video(path):
        sharp = video.sharp_frames(path, frames, LONGEST_SIDE)
        return _without_cameras(sharp, frames, f"video {path.name}", work, seed, progress)
    if path.is_file() and path.suffix.lower() in NAMED_SUFFIXES:
        raise ValueError(f"{path} is a single photo; expected a folder of at least two, or a video")
    if format == PHOTOS:
        return _from_folder(path, work, seed, progress)
    try:
        return _from_data(path, scene, format)
    except UnknownFormat as error:
        if path.is_file():
            raise ValueError(f"{path} is nothing to reconstruct: expected {_taken()}") from error
    except NearlyKnown as error:
        # Photos of which somebody has the cameras are never taken for photos without.
        if not (error.below and path.is_dir() and photo_paths(path)):
            raise ValueError(
                f"{error} (--format {PHOTOS}, or the path of a folder with nothing but the "
                "photos, has cameras estimated anew)"
            ) from error
    return _from_folder(path, work, seed, progress)


def open_posed(photos: Any, scene: str | None = None, format: Format = "auto") -> SceneInput:
    """Data whose cameras are in the frame of something that is there already.

    Args:
        photos: A path of data with cameras, or a :class:`mvsplat.data.Scene`.
        scene: Which scene, where the data has several.
        format: What is at the path: a reader's name, or "auto".

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It has no cameras, or cannot be used; says why.
    """
    if isinstance(photos, Scene):
        return _with_cameras(photos, "a scene")
    path = Path(photos)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    try:
        return _from_data(path, scene, format)
    except (UnknownFormat, NearlyKnown) as error:
        reason = f"{error}" if isinstance(error, NearlyKnown) else f"{path} has no cameras"
        raise ValueError(
            f"{reason}: expected photos whose cameras are in the splat's own frame, as data with "
            f"cameras has them ({registry.expected()}); those that are estimated anew are in "
            "another one"
        ) from error


def _from_data(path: Path, wanted: str | None, format: Format) -> SceneInput:
    """Data with cameras, in any format that the readers know."""
    source = open_scenes(path, format)
    keys = scene_keys(source, path, wanted)
    result, notes = _first_usable(source, keys, path)
    if isinstance(source, GatheredScenes) and (beside := len(photo_paths(path))):
        notes.append(
            f"{path} holds {beside} photos, too, which are not looked at (--format {PHOTOS} takes "
            "them, and estimates their cameras)"
        )
    result.notes += notes
    return result


def _first_usable(
    source: SceneSource, keys: list[tuple[Split, str]], path: Path
) -> tuple[SceneInput, list[str]]:
    """The first of some scenes that can be used, and what is to be said of the choice."""
    problems: list[Exception] = []
    for split, key in keys:
        try:
            found = _with_cameras(source.scene(split, key), f"{path.name}, with cameras")
        except (ValueError, OSError) as error:
            problems.append(error)
            continue
        notes = [f"left out: {problem}" for problem in problems]
        if len(keys) > 1:
            notes.append(f"{path} holds {len(keys)} scenes; this is {key} (--scene chooses)")
        return found, notes
    if len(problems) == 1:
        raise problems[0]
    lines = [f"  {problem}" for problem in problems[:_NAMED]]
    raise ValueError("\n".join([f"{path}: none of its {len(keys)} scenes can be used", *lines]))


def _with_cameras(scene: Scene, kind: str) -> SceneInput:
    names = [str(name) for name in scene.frame_names or range(len(scene))]
    dropped = {name: reason for reason, found in scene.left_out.items() for name in found}
    check_enough(kind, len(scene), dropped)
    return SceneInput(scene, names, kind, dropped, notes=list(scene.notes))


def _from_folder(path: Path, work: Path, seed: int, progress: Progress) -> SceneInput:
    if not path.is_dir():
        raise ValueError(f"{path} is no folder of photos")
    found = photo_paths(path)
    if not found:
        raise ValueError(f"{path} holds no photos{_nearest(path) or '.'} Expected is {_taken()}")
    folder = "/".join(path.resolve().parts[-2:])
    result = _without_cameras(found, len(found), f"photos in {folder}", work, seed, progress)
    above = path.resolve().parent
    if (beside := registry.recognise(above)) is not None:
        result.notes.append(
            f"the cameras were estimated; {above} has cameras of its own ({beside.name}), and is "
            "to be named instead to take them"
        )
    return result


def _nearest(path: Path) -> str:
    """Of a folder without photos: where some are, in words."""
    films = [file for file in entries(path) if file.suffix.lower() in video.SUFFIXES]
    below = islice(folders_below(path, _DEPTH), _LOOKED_AT)
    there = films + [folder for folder in below if photo_paths(folder)]
    if not there:
        return ""
    others = f" (there are {len(there) - 1} more such)" if len(there) > 1 else ""
    return f": did you mean {there[0]}{others}?"


def _taken() -> str:
    """All that can be reconstructed, in words."""
    usual = " ".join(sorted(SUFFIXES))
    films = " ".join(sorted(video.SUFFIXES))
    return (
        f"a folder of photos ({usual}), a video ({films} .gif), or data with cameras: "
        f"{registry.expected()}"
    )


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
        photos, work / "images", lambda done, total: progress(READING, done, total), count
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
        turn = photo.getexif().get(0x0112, 1)
        try:
            picture, mask = pictures.prepare_with_mask(photo, LONGEST_SIDE, turn)
        except ValueError as error:
            raise ValueError(f"photo {number}: {error}") from error
        return LoadedPhoto(name, picture, camera=f"{picture.size}", mask=mask)
    pixels = np.asarray(photo)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"photo {number} is an array {pixels.shape} of {pixels.dtype}; expected [height, "
            "width, 3] of uint8, a PIL picture, or a path"
        )
    return LoadedPhoto(name, Image.fromarray(pixels), camera=f"{pixels.shape}")
