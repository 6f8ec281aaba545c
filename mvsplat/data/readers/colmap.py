"""Scenes of COLMAP models: the sparse reconstruction beside its pictures."""

import logging
from pathlib import Path

from mvsplat.data.readers.colmap_model import ColmapModel
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.single import SingleScene, find_folder
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import inside, is_file, is_folder
from mvsplat.data.wording import MISSING

_MODEL_FOLDERS = ("sparse", "colmap/sparse", "colmap", ".")
_IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8")
_log = logging.getLogger("mvsplat.data")


class ColmapScenes(SingleScene):
    """A COLMAP model, text or binary, with its pictures; distorted ones are undistorted.

    The model is looked for in sparse/0, sparse/1, ... (of several, the one with the most pictures),
    sparse, colmap/sparse/... and in the folder itself. Pictures may be smaller than COLMAP's.

    Args:
        root: The scene's folder, which holds the model and the pictures; or the model's folder.
        images: The folder of the pictures, relative to root; images, or images_2, images_4 and
            images_8 where there is none, by default.
        split: The split that has the scene; the other one is empty.
        key: What to call it; the folder's name by default.
        follow_links: Also take pictures that symbolic links out of the folder lead to; only for
            data you trust.
    """

    def __init__(
        self,
        root: str,
        images: str | None = None,
        split: Split = "test",
        key: str | None = None,
        follow_links: bool = False,
    ) -> None:
        given = Path(root)
        self.images = images
        base = given if images is not None else _scene_folder(given)
        super().__init__(str(base), split, key, follow_links)
        self._model_folder = given

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the folder holds a model."""
        return bool(_models(path))

    def _read(self) -> PhotoScene:
        model = self._model()
        lenses = model.cameras()
        folder = find_folder(self.root, self.images, _IMAGE_FOLDERS)
        photos, missing = [], []
        for image in model.images():
            if image.camera not in lenses:
                raise ValueError(
                    f"{model.path('images')}: image {image.name[:100]!r} is of camera "
                    f"{image.camera}, which {model.path('cameras').name} does not have"
                )
            path = inside(folder, image.name, self.follow_links)
            if is_file(path):
                photos.append(Photo(path, image.name, lenses[image.camera], image.extrinsics))
            else:
                missing.append(image.name)
        return PhotoScene(
            self.key,
            photos,
            origin=model.folder,
            load_points=model.points,
            left_out={MISSING: missing} if missing else {},
        )

    def _model(self) -> ColmapModel:
        models = _models(self._model_folder)
        if not models:
            raise FileNotFoundError(
                f"{self._model_folder} holds no COLMAP model (cameras and images, .bin or .txt), "
                "nor do sparse/0 and sparse in it"
            )
        if len(models) == 1:
            return models[0]
        counts = [model.image_count() for model in models]
        best = models[counts.index(max(counts))]
        _log.warning(
            "%s: %d COLMAP models; %s with the most pictures (%d) is taken",
            self.root,
            len(models),
            best.folder,
            max(counts),
        )
        return best


def _scene_folder(path: Path) -> Path:
    """The folder that has the pictures: the given one or, of a model's folder, one above it."""
    if any(is_folder(path / name) for name in _IMAGE_FOLDERS):
        return path
    if ColmapModel.is_in(path):
        for above in list(path.resolve().parents)[:3]:
            if any(is_folder(above / name) for name in _IMAGE_FOLDERS):
                return above
    return path


def _models(path: Path) -> list[ColmapModel]:
    """The models of the first place that has one."""
    for name in _MODEL_FOLDERS:
        base = path / name
        if ColmapModel.is_in(base):
            return [ColmapModel(base)]
        if name != "." and is_folder(base):
            numbered = sorted(
                (part for part in base.iterdir() if part.name.isdecimal()),
                key=lambda part: int(part.name),
            )
            found = [ColmapModel(part) for part in numbered if ColmapModel.is_in(part)]
            if found:
                return found
    return []
