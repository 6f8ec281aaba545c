"""Cameras of photographs that have none, estimated by pycolmap (the extra ``photos``).

The work is done by :mod:`mvsplat.reconstruction.cameras.sfm_worker` in a process of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mvsplat.machine import usable_cores
from mvsplat.reconstruction.cameras.worker import run_worker
from mvsplat.reconstruction.collecting import Collection, PhotoFile

STAGES = {
    "features": "Finding features",
    "matches": "Matching photos",
    "cameras": "Estimating cameras",
}
Progress = Callable[[str, int, int], None]
"""Is told a stage's title, how much is done, and of how much."""

_WORKER = "mvsplat.reconstruction.cameras.sfm_worker"
_MOST_FEATURES = 8192
_MOSTLY = 0.8
_ADVICE = (
    "Photos should overlap by half or more, from places a step apart, of something with texture; "
    "or give cameras (a COLMAP model, a transforms.json)."
)


@dataclass
class CameraEstimate:
    """What structure from motion found.

    Args:
        folder: A COLMAP data set: ``images/``, ``masks/`` and the model in ``sparse/0``.
        dropped: Why photographs have no camera, by name.
        points: Number of sparse points.
        reprojection_error: Mean distance in pixels between features and projected points.
    """

    folder: Path
    dropped: dict[str, str] = field(default_factory=dict)
    points: int = 0
    reprojection_error: float = 0.0


def estimate_cameras(
    collection: Collection,
    folder: Path,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> CameraEstimate:
    """Estimate cameras and sparse points.

    Photographs of one camera share their intrinsics, which start from EXIF where it says something.
    Features on pixels that do not count are not looked at.

    Args:
        collection: The photographs, in ``folder / "images"``.
        folder: Where to work; the model is written to ``sparse/0``.
        seed: Of everything random.
        progress: Is told how far which stage is.

    Raises:
        ValueError: pycolmap is missing, or fewer than two photographs get a camera; says why.
        RuntimeError: pycolmap failed.
    """
    if find_spec("pycolmap") is None:
        raise ValueError(
            "these photos have no cameras, and pycolmap, which estimates them, is not installed: "
            "pip install 'mvsplat[photos]' (or pip install pycolmap)"
        )
    result = run_worker(
        _WORKER,
        folder,
        _task(collection, seed),
        "estimating cameras",
        lambda stage, done, total: progress(STAGES[stage], done, total),
    )
    names = {photo.file: photo.name for photo in collection.photos}
    if len(result["registered"]) < 2 or _only_turned(result):
        raise ValueError(_failure(len(names), result))
    dropped = {name: "does not match the others" for name in names.values()}
    for other in result["other_models"]:
        dropped |= {names[file]: "belongs to another group of photos" for file in other}
    for file in result["registered"]:
        del dropped[names[file]]
    return CameraEstimate(folder, dropped, result["points"], result["reprojection_error"])


def _task(collection: Collection, seed: int) -> dict[str, Any]:
    """What the worker is to do."""
    return {
        "images": str(collection.folder),
        "masks": str(collection.masks),
        "masked": [photo.file for photo in collection.photos if photo.masked],
        "order": [photo.file for photo in collection.photos],
        "cameras": _cameras(collection.photos),
        "threads": usable_cores(),
        "features": _MOST_FEATURES,
        "seed": seed,
    }


def _cameras(photos: list[PhotoFile]) -> list[dict[str, Any]]:
    """Photographs of the same camera, zoom and size, with the focal length to start from."""
    groups: dict[tuple[str, int, int], list[PhotoFile]] = {}
    for photo in photos:
        groups.setdefault((photo.camera, photo.width, photo.height), []).append(photo)
    return [
        {
            "files": [photo.file for photo in group],
            "width": width,
            "height": height,
            "focal_length": group[0].focal_length,
        }
        for (_, width, height), group in groups.items()
    ]


def _only_turned(result: dict[str, Any]) -> bool:
    """Whether nearly all that matches is as if the camera had turned on the spot.

    Structure from motion then finds what noise looks like from afar.
    """
    return result["turned_pairs"] > _MOSTLY * result["matching_pairs"]


def _failure(count: int, result: dict[str, Any]) -> str:
    """Why there are no cameras, as well as the matches tell."""
    matching = result["matching_pairs"]
    if matching == 0:
        why = "no two of them show the same thing; are they of different places, or blurred?"
    elif _only_turned(result):
        why = (
            "the camera seems only to have turned on the spot: without moving it sideways, "
            "there is no depth to be seen"
        )
    elif count == 2:
        why = "they match, but seem to be taken from nearly the same place: take a wider step"
    else:
        why = f"only {matching} pairs of them match, too little to start from"
    return f"cameras could not be estimated for these {count} photos: {why}\n{_ADVICE}"
