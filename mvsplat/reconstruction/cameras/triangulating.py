"""Sparse points of photographs whose cameras are known, by pycolmap (the extra ``photos``).

The work is done by :mod:`mvsplat.reconstruction.cameras.triangulation_worker` in a process of its
own.
"""

import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.geometry.projection import invert_rigid
from mvsplat.geometry.view_groups import measure_views, neighbours
from mvsplat.machine import usable_cores
from mvsplat.reconstruction.cameras.worker import run_worker
from mvsplat.refinement.photographs import Photograph

_WORKER = "mvsplat.reconstruction.cameras.triangulation_worker"
_SIDE = 640  # pixels of the longer side of what is looked at
_MOST_FEATURES = 3000
_PARTNERS = 8
_MOST_ERROR, _LEAST_VIEWS = 1.0, 3  # pixels between features and a point, and how many see it

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""


def triangulate(
    photographs: Sequence[Photograph],
    near: float,
    far: float,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Float[Tensor, "p 3"]:
    """World positions of what three photographs or more show at the same place.

    Each photograph is matched with a few others, so that time grows with their number.

    Args:
        photographs: With cameras and without distortion; nothing else is looked at.
        near: Nearest depth of the scene, which tells what photographs share.
        far: Farthest depth.
        seed: Of everything random.
        progress: Is told how far it is, and may raise what ends the work.

    Raises:
        ModuleNotFoundError: pycolmap is not installed.
        RuntimeError: pycolmap failed.
    """
    if find_spec("pycolmap") is None:
        raise ModuleNotFoundError("pycolmap is not installed: pip install 'mvsplat[photos]'")
    small = [photograph.fitted(_SIDE) for photograph in photographs]
    pairs = _pairs(small, near, far)
    total = len(small) + len(pairs)
    before = {"features": 0, "matches": len(small)}
    with tempfile.TemporaryDirectory(prefix="mvsplat-points-") as folder:
        task = {
            "views": [_written(number, view, Path(folder)) for number, view in enumerate(small)],
            "order": [_name(number) for number in range(len(small))],
            "pairs": pairs,
            "threads": usable_cores(),
            "features": _MOST_FEATURES,
            "seed": seed,
            "most_error": _MOST_ERROR,
            "least_views": _LEAST_VIEWS,
        }
        progress(0, total)
        run_worker(
            _WORKER,
            Path(folder),
            task,
            "triangulating points",
            lambda stage, done, _: progress(before[stage] + done, total),
        )
        return torch.from_numpy(np.load(Path(folder) / "points.npy")).float()


def _pairs(photographs: list[Photograph], near: float, far: float) -> list[tuple[int, int]]:
    """Each photograph with those that show most of its content."""
    extrinsics = torch.stack([photograph.extrinsics for photograph in photographs]).float()
    intrinsics = torch.stack([photograph.intrinsics for photograph in photographs]).float()
    compared = neighbours(measure_views(extrinsics, intrinsics, near, far), _PARTNERS)
    pairs = {
        (min(one, other), max(one, other))
        for one, others in enumerate(compared)
        for other in others.tolist()
    }
    return sorted(pairs)


def _written(number: int, photograph: Photograph, folder: Path) -> dict[str, Any]:
    """The camera of a photograph whose picture, and mask if it has one, is now in the folder."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(exist_ok=True)
    name = _name(number)
    pixels = photograph.pixels.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "images" / name)
    if photograph.mask is not None:
        counted = photograph.mask.to(torch.uint8).numpy() * 255
        Image.fromarray(counted).save(folder / "masks" / f"{name}.png")
    height, width = photograph.shape
    lens = photograph.intrinsics
    return {
        "width": width,
        "height": height,
        "masked": photograph.mask is not None,
        "lens": [
            float(lens[0, 0]) * width,
            float(lens[1, 1]) * height,
            float(lens[0, 2]) * width,
            float(lens[1, 2]) * height,
        ],
        "camera_from_world": invert_rigid(photograph.extrinsics.double())[:3].tolist(),
    }


def _name(number: int) -> str:
    return f"{number:06d}.bmp"  # quickly written, and nothing is lost
