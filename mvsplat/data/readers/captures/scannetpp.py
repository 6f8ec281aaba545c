"""ScanNet++ (Yeshwanth et al. 2023): a scene's ``dslr`` and ``iphone`` folders.

The DSLR's pictures are in ``dslr/resized_images`` (or ``original_images``), its cameras in
``dslr/colmap`` (read first: it has points) or ``dslr/nerfstudio/transforms.json`` (OpenGL axes, an
OPENCV_FISHEYE lens, names of pictures without a folder). The iPhone's frames, which have to be
extracted from ``rgb.mkv``, are in ``iphone/rgb``, their cameras in ``iphone/colmap``. What was made
anonymous is black in the masks beside the pictures, in ``dslr/resized_anon_masks`` (or
``original_anon_masks``) and ``iphone/rgb_masks``.
"""

from functools import partial
from pathlib import Path
from typing import Any

from mvsplat.data.readers.captures.frames import (
    Frames,
    Pose,
    colmap_camera,
    from_opengl,
    number,
    numbers,
    pictures_by_stem,
)
from mvsplat.data.readers.colmap_cameras import colmap_lens
from mvsplat.data.readers.colmap_model import ColmapModel
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.photos import PhotoScene
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder, read_json

_MASKS = {
    "resized_images": "resized_anon_masks",
    "original_images": "original_anon_masks",
    "rgb": "rgb_masks",
}
_PICTURES = {"dslr": ("resized_images", "original_images"), "iphone": ("rgb",)}


class ScanNetPPReader(Reader):
    """A scene of ScanNet++: its DSLR's pictures, or its iPhone's where there are no others."""

    expected = "a ScanNet++ scene (dslr/colmap or dslr/nerfstudio with dslr/resized_images)"

    def recognises(self, path: Path) -> bool:
        return any(_has_cameras(part) and _pictures(part) for part in _parts(path))

    def nearly(self, path: Path) -> str | None:
        for part in _parts(path):
            if _has_cameras(part) and part.name in _PICTURES:
                return (
                    f"{part} has ScanNet++'s cameras, but their pictures are missing: expected "
                    f"them in {' or '.join(f'{name}/' for name in _PICTURES[part.name])}"
                    + (" (extract the frames of rgb.mkv)" if part.name == "iphone" else "")
                )
        return None

    def read(self, path: Path) -> Scene:
        parts = [part for part in _parts(path) if _has_cameras(part) and _pictures(part)]
        if not parts:
            raise FileNotFoundError(f"{path} holds no cameras of ScanNet++ with pictures")
        part = parts[0]
        folder = _pictures(part)
        assert folder is not None
        model = ColmapModel(part / "colmap")
        return _from_model(model, folder) if _is_model(part) else _from_transforms(part, folder)


def _from_model(model: ColmapModel, folder: Path) -> PhotoScene:
    lenses = model.cameras()
    pictures, masks = pictures_by_stem(folder), _masks(folder)
    frames = Frames(model.folder)
    for image in model.images():
        # The iPhone's are called video/frame_000000.jpg.
        stem = Path(image.name).stem
        camera = partial(colmap_camera, lenses, image)
        frames.add(image.name, pictures.get(stem), camera, masks.get(stem))
    return frames.scene(folder.name, load_points=model.points)


def _from_transforms(part: Path, folder: Path) -> PhotoScene:
    file = part / "nerfstudio/transforms.json"
    content = read_json(file)
    size = round(number(content, "w")), round(number(content, "h"))
    names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4")
    lens = colmap_lens("OPENCV_FISHEYE", size, [number(content, name) for name in names])
    pictures, masks = pictures_by_stem(folder), _masks(folder)
    frames = Frames(file)
    for field in ("frames", "test_frames"):
        for frame in content.get(field) or []:
            name = str(frame.get("file_path")) if isinstance(frame, dict) else "?"
            stem = Path(name).stem
            frames.add(name, pictures.get(stem), partial(_camera, lens, frame), masks.get(stem))
    return frames.scene(folder.name)


def _camera(lens: Lens, frame: Any) -> tuple[Lens, Pose]:
    rows = frame.get("transform_matrix") if isinstance(frame, dict) else None
    return lens, from_opengl(numbers(rows, (4, 4), "transform_matrix"))


def _parts(path: Path) -> list[Path]:
    """The scene's dslr and iphone folders, or the folder itself where it is one of them."""
    if path.name in _PICTURES:
        return [path]
    return [path / name for name in _PICTURES if is_folder(path / name)]


def _is_model(part: Path) -> bool:
    return bool(ColmapModel.all_in(part / "colmap"))


def _has_cameras(part: Path) -> bool:
    return _is_model(part) or is_file(part / "nerfstudio/transforms.json")


def _pictures(part: Path) -> Path | None:
    names = _PICTURES.get(part.name, ())
    return next((part / name for name in names if is_folder(part / name)), None)


def _masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder of pictures, by the pictures' names without suffix."""
    return pictures_by_stem(folder.parent / _MASKS[folder.name])
