"""The estimated cameras as a COLMAP data set, corrected where refinement corrected them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mvsplat.data.readers.masks import FOLDER as MASKS
from mvsplat.files import replacing
from mvsplat.geometry.projection import invert_rigid

_MODEL = Path("sparse/0")


def export_colmap(
    source: Path, target: Path, corrected: Mapping[str, Float[Tensor, "4 4"]]
) -> None:
    """Copy ``images/``, ``masks/`` if there are any, and the model in ``sparse/0``.

    Args:
        source: The data set that was estimated.
        target: Where to write.
        corrected: Camera-to-world matrices that replace the estimated ones, by the image's name.

    Raises:
        RuntimeError: pycolmap failed.
    """
    _copy(source / "images", target / "images")
    if (source / MASKS).is_dir():
        _copy(source / MASKS, target / MASKS)
    if not corrected:
        _copy(source / _MODEL, target / _MODEL)
        return
    with tempfile.TemporaryDirectory(prefix="mvsplat-colmap-") as folder:
        _write_corrected(source / _MODEL, Path(folder), corrected)
        _copy(Path(folder), target / _MODEL)


def _copy(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        with replacing(target / file.name) as temporary:
            shutil.copyfile(file, temporary)


def _write_corrected(
    source: Path, target: Path, corrected: Mapping[str, Float[Tensor, "4 4"]]
) -> None:
    poses = {name: invert_rigid(pose.double())[:3].tolist() for name, pose in corrected.items()}
    worker = subprocess.run(
        [sys.executable, "-m", f"{__package__}.pose_worker", str(source), str(target)],
        input=json.dumps(poses),
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    if worker.returncode != 0:
        said = next((line for line in reversed(worker.stderr.splitlines()) if line.strip()), "")
        raise RuntimeError(
            f"pycolmap ended with code {worker.returncode} while writing corrected cameras: "
            f"{said.strip()[:300]}"
        )
