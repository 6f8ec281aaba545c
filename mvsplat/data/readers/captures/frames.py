"""What the readers of captures share: frames collected one by one, poses, pictures by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.left_out import MISSING, LeftOut
from mvsplat.data.picture_formats import SUFFIXES
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.colmap_model import ColmapImage
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.untrusted import in_natural_order

Pose = Float[Tensor, "4 4"]

_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


class Frames:
    """Gathers a scene's frames; those that cannot be used are left out, by reason.

    Args:
        origin: The file or folder the cameras are from, for messages.
    """

    def __init__(self, origin: Path) -> None:
        self.origin = origin
        self.photos: list[Photo] = []
        self.left_out = LeftOut()

    def add(
        self,
        name: str,
        picture: Path | None,
        camera: Callable[[], tuple[Lens, Pose]],
        mask: Path | None = None,
    ) -> None:
        """A frame: its picture, None where that is missing, how to read its camera, and its mask
        where it lies in a place of its own."""
        try:
            if picture is None:
                self.left_out.add(MISSING, name)
                return
            lens, pose = camera()
            check_cameras(pose[None], lens.intrinsics[None], [name])
        except ValueError as error:
            reason = str(error).replace(f"the camera of frame {name!r}", "the camera")
            self.left_out.add(f"damaged cameras ({reason})", name)
        else:
            self.photos.append(Photo(picture, name, lens, pose, mask))

    def scene(self, key: str, **options: Any) -> PhotoScene:
        """The scene of all frames.

        Raises:
            ValueError: No frame can be used; says why.
        """
        return PhotoScene(key, self.photos, self.origin, left_out=self.left_out, **options)


def colmap_camera(lenses: Mapping[int, Lens], image: ColmapImage) -> tuple[Lens, Pose]:
    """The camera of a COLMAP image, of a model's lenses.

    Raises:
        ValueError: The model lacks the lens.
    """
    if image.camera not in lenses:
        raise ValueError(f"the model has no camera {image.camera}")
    return lenses[image.camera], image.extrinsics


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, in natural order (2 before 10)."""
    files = [path for path in entries(folder) if path.suffix.lower() in SUFFIXES]
    return [files[i] for i in in_natural_order([path.name for path in files])]


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffix."""
    return {path.stem: path for path in pictures_in(folder)}


def some_hold(files: Sequence[Path], content: bytes) -> bool:
    """Whether one of the first files holds some bytes: the very first may be damaged."""
    return any(content in file.read_bytes() for file in files[:5])


def from_opengl(pose: Pose) -> Pose:
    """Camera-to-world with OpenCV axes, of one with OpenGL's (y up, z backward)."""
    return pose @ _FLIP


def rigid(rotation: Any, position: Any) -> Pose:
    """A matrix of a rotation [3, 3] and a position [3].

    Raises:
        ValueError: They are not numbers of these shapes.
    """
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = numbers(rotation, (3, 3), "the rotation")
    pose[:3, 3] = numbers(position, (3,), "the position")
    return pose


def numbers(values: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """Nested lists of numbers as a tensor.

    Raises:
        ValueError: They are of another shape, no numbers, or not finite.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != shape:
        size = " x ".join(map(str, shape)) or "a"
        raise ValueError(f"{what} is {str(values)[:60]}, expected {size} numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} has a number that is not finite")
    return torch.from_numpy(array)


def number(fields: Any, name: str, default: float | None = None) -> float:
    """A number of a JSON object.

    Raises:
        ValueError: It is missing or no finite number.
    """
    value = fields.get(name, default) if isinstance(fields, dict) else None
    return float(numbers(value, (), name))


def load_array(path: Path) -> np.ndarray:
    """A NumPy file's array; nothing in the file is executed.

    Raises:
        ValueError: It is damaged or of another kind.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # no longer than the file
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it holds no numbers")
        return np.array(array, dtype=np.float64)
    except Exception as error:  # NumPy raises a dozen kinds on damaged files
        raise ValueError(f"{path} is damaged, or no NumPy array: {error}") from error


def load_matrix(path: Path, text: str) -> np.ndarray:
    """The numbers of a text as rows of one length.

    Raises:
        ValueError: A word is no number, or rows differ in length; names the file and the line.
    """
    rows: list[list[float]] = []
    for line, content in enumerate(text.splitlines(), 1):
        try:
            row = [float(word) for word in content.replace(",", " ").split()]
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        if row and rows and len(row) != len(rows[0]):
            raise ValueError(f"{path}, line {line}: {len(row)} numbers, expected {len(rows[0])}")
        if row:
            rows.append(row)
    return np.array(rows)
