"""Camera paths from files: this package's ``cameras.json``, and what Nerfstudio's viewer saves."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.export.cameras import load_cameras
from mvsplat.geometry.trajectories import CameraPath


def load_camera_path(path: str | Path) -> CameraPath:
    """Read the cameras of a film, in the order of its frames.

    Two kinds of JSON are understood: files of :func:`mvsplat.export.save_cameras`, and camera paths
    of Nerfstudio (``camera_path``: a list of 4x4 ``camera_to_world`` with OpenGL axes, vertical
    ``fov`` in degrees and ``aspect``).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or something else; says which camera and field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no camera path at {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no JSON file: {error}") from error
    entries = content.get("camera_path") if isinstance(content, dict) else None
    if entries is None:
        frames = load_cameras(path).frames
        return CameraPath(
            torch.stack([frame.extrinsics for frame in frames]),
            torch.stack([frame.intrinsics for frame in frames]),
        )
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: camera_path is no list of cameras")
    cameras = [_camera(entry, f"{path}, camera {number}") for number, entry in enumerate(entries)]
    poses, lenses = zip(*cameras, strict=True)
    return CameraPath(torch.stack(poses), torch.stack(lenses))


def _camera(entry: Any, where: str) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    try:
        pose = torch.tensor(entry["camera_to_world"], dtype=torch.float64).reshape(4, 4)
        fov, aspect = math.radians(float(entry["fov"])), float(entry.get("aspect", 1.0))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{where}: expected camera_to_world (16 numbers), fov and aspect ({error})"
        ) from error
    rotation = pose[:3, :3]
    if not torch.allclose(rotation @ rotation.mT, torch.eye(3).double(), atol=1e-3):
        raise ValueError(f"{where}: the upper left 3x3 of camera_to_world is no rotation")
    if not 0 < fov < math.pi or not 0 < aspect < math.inf or not pose.isfinite().all():
        raise ValueError(
            f"{where}: fov is {entry['fov']} and aspect {aspect}; expected degrees in (0, 180) and "
            "a positive number"
        )
    focal = 0.5 / math.tan(fov / 2)
    lens = torch.tensor([[focal / aspect, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    # OpenGL's cameras look along -z and have y up.
    return (pose * pose.new_tensor([1.0, -1.0, -1.0, 1.0])).float(), lens
