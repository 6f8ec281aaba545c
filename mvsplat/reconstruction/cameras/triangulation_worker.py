"""Points of photographs with known cameras by pycolmap: ``python -m MODULE FOLDER``.

``FOLDER/task.json`` says what to do, ``points.npy`` is what comes of it; the rest is as in
:mod:`mvsplat.reconstruction.cameras.sfm_worker`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from mvsplat.machine import exit_once
from mvsplat.reconstruction.cameras.matching import extraction_options, match_pairs, parts, tell


def main(folder: Path) -> None:
    """Do what ``folder/task.json`` says."""
    exit_once(sys.stdin.read)
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    pycolmap.set_random_seed(task["seed"])
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.WARNING)
    database = folder / "database.db"
    cameras = _cameras(task)
    _store(cameras, database)
    _extract(task, folder, database)
    match_pairs(task, task["pairs"], folder, database)
    points = _triangulate(task, cameras, folder, database)
    np.save(folder / "points.npy", points)
    tell(result={"points": len(points)})


def _cameras(task: dict[str, Any]) -> pycolmap.Reconstruction:
    """A model without any points."""
    model = pycolmap.Reconstruction()
    for number, (name, view) in enumerate(zip(task["order"], task["views"], strict=True), 1):
        camera = pycolmap.Camera(
            camera_id=number,
            model="PINHOLE",
            width=view["width"],
            height=view["height"],
            params=view["lens"],
            has_prior_focal_length=True,
        )
        model.add_camera_with_trivial_rig(camera)
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=name, camera_id=number, image_id=number),
            pycolmap.Rigid3d(np.array(view["camera_from_world"], np.float64)),
        )
    return model


def _store(model: pycolmap.Reconstruction, database: Path) -> None:
    """Number the photographs, which pycolmap's threads would do as they happen to finish."""
    with pycolmap.Database.open(database) as content:
        for camera in model.cameras.values():
            content.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            content.write_rig(rig, use_rig_id=True)
        for frame in model.frames.values():
            content.write_frame(frame, use_frame_id=True)
        for image in model.images.values():
            content.write_image(image, use_image_id=True)


def _extract(task: dict[str, Any], folder: Path, database: Path) -> None:
    """Features, some photographs at a time."""
    options = extraction_options(task)
    done = 0
    for masked in (False, True):
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        if masked:
            reader.mask_path = folder / "masks"
        views = zip(task["order"], task["views"], strict=True)
        names = [name for name, view in views if view["masked"] == masked]
        for part in parts(names, 2 * task["threads"]):
            pycolmap.extract_features(
                database,
                folder / "images",
                part,
                pycolmap.CameraMode.PER_IMAGE,
                reader,
                options,
                pycolmap.Device.cpu,
            )
            done += len(part)
            tell(stage="features", done=done, total=len(task["order"]))


def _triangulate(
    task: dict[str, Any], cameras: pycolmap.Reconstruction, folder: Path, database: Path
) -> np.ndarray:
    """Points that enough photographs agree on, [p, 3]."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1  # sums of many threads differ from run to run
    options.random_seed = options.mapper.random_seed = task["seed"]
    options.triangulation.random_seed = task["seed"]
    options.extract_colors = False
    target = folder / "model"
    target.mkdir()
    model = pycolmap.triangulate_points(cameras, database, folder / "images", target, True, options)
    found = [
        point.xyz
        for _, point in sorted(model.points3D.items())
        if point.error <= task["most_error"] and point.track.length() >= task["least_views"]
    ]
    return np.array(found, np.float64).reshape(-1, 3)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
