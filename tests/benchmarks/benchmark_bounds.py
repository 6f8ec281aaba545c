"""How right estimated depth bounds are on real photographs, and how long an estimate takes.

    python tests/benchmarks/benchmark_bounds.py FOLDER [FOLDER ...]

Every folder (of any format that ``mvsplat convert`` reads) is converted to chunks, of whose scenes
the bounds and points are removed. What is estimated then is compared with the depths, over all
frames, of the scene's sparse points; where it has none, pycolmap triangulates SIFT features with
the known cameras. Right is a near within a factor of 1.5 of the points' 1 %, and a far beyond their
99 % and within a factor of 3. Times are seconds of one core.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pycolmap
import torch
from rich.console import Console
from rich.table import Table

from mvsplat.cli.commands.convert import ConvertOptions, convert
from mvsplat.data.bounds import estimate_bounds
from mvsplat.data.chunks.chunk_scenes import ChunkScene
from mvsplat.data.chunks.scene_conversion import ConversionSettings
from mvsplat.data.chunks.storage import load_chunk
from mvsplat.data.scene import Scene
from mvsplat.geometry.depth_bounds import bounds_from_cameras, bounds_from_points
from mvsplat.geometry.projection import invert_rigid

REMOVED = ("near", "far", "points", "depths")


def converted(folder: Path, output: Path) -> list[dict]:
    """The folder's scenes as chunk entries."""
    convert([str(folder)], ConvertOptions(str(output), workers=1), ConversionSettings())
    chunks = sorted(output.glob("*/*.torch"))
    return [entry for chunk in chunks for entry in load_chunk(chunk).values()]


def triangulated(scene: Scene, work: Path) -> torch.Tensor:
    """Points [p, 3] of at least three pictures each, by pycolmap, from the scene's cameras."""
    pictures, database = work / "pictures", work / "database.db"
    pictures.mkdir()
    model = pycolmap.Reconstruction()
    names = [f"{index:05d}.png" for index in range(len(scene))]
    for index, name in enumerate(names):
        picture = scene.image(index)
        picture.save(pictures / name)
        (fx, _, cx), (_, fy, cy), _ = scene.intrinsics[index].double().tolist()
        width, height = picture.size
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        reader.camera_params = f"{fx * width},{fy * height},{cx * width},{cy * height}"
        single = pycolmap.CameraMode.SINGLE
        pycolmap.extract_features(
            database, pictures, [name], single, reader, device=pycolmap.Device.cpu
        )
    pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
    with pycolmap.Database.open(database) as content:
        for camera in content.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in content.read_all_images():
            pose = invert_rigid(scene.extrinsics[names.index(image.name)].double())[:3]
            posed = pycolmap.Image(
                name=image.name, camera_id=image.camera_id, image_id=image.image_id
            )
            model.add_image_with_trivial_frame(posed, pycolmap.Rigid3d(pose.numpy()))
    model = pycolmap.triangulate_points(model, database, pictures, work / "model")
    kept = [p.xyz for p in model.points3D.values() if p.track.length() > 2 and p.error < 2]
    return torch.from_numpy(np.array(kept)).float()


def measure(folder: Path, entry: dict) -> list[str]:
    """A scene's row of the table."""
    scene = ChunkScene({k: v for k, v in entry.items() if k not in REMOVED}, "the chunk")
    points, source = ChunkScene(entry, "the chunk").points, "its own"
    if points is None:
        with tempfile.TemporaryDirectory() as work:
            points, source = triangulated(scene, Path(work)), "pycolmap"
    truth = bounds_from_points(points, scene.extrinsics, scene.intrinsics)
    if truth is None:
        return [folder.name, scene.key, source, "no points"]
    before = time.thread_time()
    near, far, origin = estimate_bounds(scene).bounds
    seconds = time.thread_time() - before
    guess = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
    right = 1 / 1.5 < near / truth[0] < 1.5 and 1 < far / truth[1] < 3
    return [
        folder.name,
        scene.key,
        f"{source}, {len(points)}",
        *(f"{bound:.2f}" for bound in truth),
        f"{near:.2f} ({near / truth[0]:.2f})",
        f"{far:.2f} ({far / truth[1]:.2f})",
        origin,
        "yes" if right else "NO",
        f"{seconds:.2f}",
        f"{guess[0]:.2f}, {guess[1]:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    torch.set_num_threads(1)
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    table = Table(
        *(
            "folder",
            "scene",
            "points",
            "1 %",
            "99 %",
            "near (of 1 %)",
            "far (of 99 %)",
            "from",
            "right",
        ),
        *("seconds", "by cameras alone"),
    )
    with tempfile.TemporaryDirectory() as output:
        for number, folder in enumerate(folders):
            for entry in converted(folder, Path(output) / str(number)):
                table.add_row(*measure(folder, entry))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
