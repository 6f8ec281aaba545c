"""Structure from motion by pycolmap, in a process of its own: ``python -m MODULE FOLDER``.

A C++ library that aborts takes its process along: here that is this one. ``FOLDER/task.json`` says
what to do; every line of standard output is a JSON object, ``{"stage", "done", "total"}`` while at
work and ``{"result": {...}}`` at the end. The process ends itself when its standard input closes,
which happens when the program that started it dies, however it does.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from mvsplat.machine import exit_once
from mvsplat.reconstruction.cameras.matching import extraction_options, match_pairs, parts, tell
from mvsplat.reconstruction.cameras.pairs import EXHAUSTIVE, pairs_to_match

# Of photographs whose EXIF does not say: that of a lens with 53 degrees, in longer sides.
_USUAL_FOCAL_LENGTH = 1.0
# Two or three views do not determine a focal length and a distortion besides everything else.
_LENSES_FROM = 4
# K^-1 H K of photographs taken from one spot is a rotation, whose singular values are equal; their
# ratio, as the focal length may be a guess, is at most this.
_ROTATION_STRETCH = 1.12


def main(folder: Path) -> None:
    """Do what ``folder/task.json`` says."""
    exit_once(sys.stdin.read)
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    pycolmap.set_random_seed(task["seed"])
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.WARNING)
    database = folder / "database.db"
    _extract(task, database)
    match_pairs(task, pairs_to_match(len(task["order"])), folder, database)
    tell(result=_map(task, folder, database))


def _extract(task: dict[str, Any], database: Path) -> None:
    """Features, some photographs at a time; those of one camera share their intrinsics."""
    options = extraction_options(task)
    with pycolmap.Database.open(database):
        pass  # it is there now
    done, total = 0, sum(len(camera["files"]) for camera in task["cameras"])
    for camera in task["cameras"]:
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_RADIAL"
        reader.default_focal_length_factor = _USUAL_FOCAL_LENGTH
        if camera["focal_length"] is not None:
            numbers = (camera["focal_length"], camera["width"] / 2, camera["height"] / 2, 0)
            reader.camera_params = ",".join(map(str, numbers))
        # Its threads would number the photographs as they happen to finish, and cameras with them.
        pycolmap.import_images(
            database, task["images"], pycolmap.CameraMode.SINGLE, camera["files"], reader
        )
        for files in _in_parts(camera["files"], task):
            if files[0] in task["masked"]:
                reader.mask_path = task["masks"]
            pycolmap.extract_features(
                database,
                task["images"],
                files,
                pycolmap.CameraMode.SINGLE,
                reader,
                options,
                pycolmap.Device.cpu,
            )
            done += len(files)
            tell(stage="features", done=done, total=total)


def _in_parts(files: list[str], task: dict[str, Any]) -> list[list[str]]:
    """The photographs, some at a time, and those that have masks last: of each such part all do."""
    masked = set(task["masked"])
    kinds = [[file for file in files if (file in masked) == which] for which in (False, True)]
    return [part for kind in kinds for part in parts(kind, 2 * task["threads"])]


def _map(task: dict[str, Any], folder: Path, database: Path) -> dict[str, Any]:
    """Cameras and points; the model with most photographs is written.

    Where the photographs hardly move, focal lengths run away and take the rest along: unless all
    photographs get a camera, it is tried again with the lenses as they were assumed.
    """
    count = len(task["order"])
    models = _models(task, folder / "refined", database, True) if count >= _LENSES_FROM else []
    if not models or models[0].num_reg_images() < count:
        fixed = _models(task, folder / "fixed", database, False)
        models = max(models, fixed, key=lambda m: m[0].num_reg_images() if m else 0)
    result: dict[str, Any] = {"registered": [], "other_models": [], **_pairs(database, task)}
    if models:
        target = folder / "sparse" / "0"
        target.mkdir(parents=True)
        models[0].write_binary(target)
        result["registered"] = _names(models[0])
        result["other_models"] = [_names(model) for model in models[1:]]
        result["points"] = models[0].num_points3D()
        result["reprojection_error"] = models[0].compute_mean_reprojection_error()
    return result


def _models(
    task: dict[str, Any], folder: Path, database: Path, refine_lenses: bool
) -> list[pycolmap.Reconstruction]:
    """All models that can be built, the one with most photographs first."""
    count = len(task["order"])
    options = pycolmap.IncrementalPipelineOptions()
    # Sums of many threads differ from run to run, and so do the cameras of few photographs.
    options.num_threads = 1 if count <= EXHAUSTIVE else task["threads"]
    options.random_seed = options.mapper.random_seed = task["seed"]
    options.triangulation.random_seed = task["seed"]
    options.min_model_size = 2
    # Of two photographs, every point is seen by two only.
    options.triangulation.ignore_two_view_tracks = count > 2
    options.ba_refine_focal_length = options.ba_refine_extra_params = refine_lenses
    options.mapper.abs_pose_refine_focal_length = refine_lenses
    options.mapper.abs_pose_refine_extra_params = refine_lenses
    registered = itertools.count(3)
    folder.mkdir()
    models = pycolmap.incremental_mapping(
        database,
        task["images"],
        folder,
        options,
        initial_image_pair_callback=lambda: tell(stage="cameras", done=2, total=count),
        next_image_callback=lambda: tell(
            stage="cameras", done=min(next(registered), count), total=count
        ),
    )
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def _names(model: pycolmap.Reconstruction) -> list[str]:
    return sorted(model.images[number].name for number in model.reg_image_ids())


def _pairs(database: Path, task: dict[str, Any]) -> dict[str, Any]:
    """How many pairs match, and how many of these a mere turn of the camera explains."""
    lenses = {file: camera for camera in task["cameras"] for file in camera["files"]}
    with pycolmap.Database.open(database) as content:
        names = {image.image_id: image.name for image in content.read_all_images()}
        ids, geometries = content.read_two_view_geometries()
        verified = turned = 0
        for pair, geometry in zip(ids, geometries, strict=True):
            if len(geometry.inlier_matches) < 15:
                continue
            verified += 1
            first, second = (names[number] for number in pycolmap.pair_id_to_image_pair(pair))
            turned += _is_turn(geometry, lenses[first], lenses[second])
    return {"matching_pairs": verified, "turned_pairs": turned}


def _is_turn(geometry: Any, first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the homography between two photographs is that of a camera that only turned."""
    kind = pycolmap.TwoViewGeometryConfiguration
    planar = (kind.PLANAR, kind.PANORAMIC, kind.PLANAR_OR_PANORAMIC)
    if geometry.config not in [int(k) for k in planar] or geometry.H is None:
        return False
    turn = np.linalg.inv(_calibration(second)) @ geometry.H @ _calibration(first)
    stretch = np.linalg.svd(turn, compute_uv=False)
    return bool(stretch[0] / stretch[-1] < _ROTATION_STRETCH)


def _calibration(camera: dict[str, Any]) -> np.ndarray:
    width, height = camera["width"], camera["height"]
    focal = camera["focal_length"] or _USUAL_FOCAL_LENGTH * max(width, height)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
