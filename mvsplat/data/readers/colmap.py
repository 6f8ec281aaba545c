"""Scenes of COLMAP models: the sparse reconstruction beside its pictures."""

import logging
import os
from pathlib import Path

from mvsplat.data.readers.colmap_model import ColmapModel, ColmapTables
from mvsplat.data.readers.finding import Found, find_pictures
from mvsplat.data.readers.folder_listing import Listing
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.picture_names import Form
from mvsplat.data.readers.picture_search import SMALLER, other_places
from mvsplat.data.readers.single import SingleScene
from mvsplat.data.scene import Split
from mvsplat.data.untrusted import is_folder

_MODEL_FOLDERS = ("sparse", "colmap/sparse", "colmap", ".")
_IMAGE_FOLDERS = ("images", *SMALLER)
_log = logging.getLogger("mvsplat.data")


class ColmapScenes(SingleScene):
    """A COLMAP model, text or binary, with its pictures; distorted ones are undistorted.

    The model is looked for in sparse/0, sparse/1, ... (of several, the one with the most pictures),
    sparse, colmap/sparse/... and in the folder itself. Pictures may be smaller than COLMAP's.
    Images whose line, camera or picture cannot be used are left out and reported.

    Args:
        root: The scene's folder, which holds the model and the pictures; or the model's folder.
        images: The folder of the pictures, relative to root. By default images, or images_2,
            images_4 and images_8 where there is none, or whatever folder has the pictures: the
            root, one in it, the one above, or one of pictures beside it.
        split: The split that has the scene; the other one is empty.
        key: What to call it; the folder's name by default.
        follow_links: Also take pictures that symbolic links out of the folder lead to.
    """

    def __init__(
        self,
        root: str,
        images: str | None = None,
        split: Split = "test",
        key: str | None = None,
        follow_links: bool = True,
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
        model, tables = self._model()
        left_out, photos = tables.left_out, []
        found = self._pictures([image.name for image in tables.images], model)
        for image in tables.images:
            lens = tables.lenses.get(image.camera)
            if image.name not in found.paths:
                continue
            if lens is None:
                left_out.add(_no_camera(model, tables, image.camera), image.name)
            else:
                path, name = found.paths[image.name], found.names[image.name]
                photos.append(Photo(path, name, lens, image.extrinsics))
        return PhotoScene(
            self.key,
            photos,
            origin=model.folder,
            load_points=model.points,
            left_out=left_out,
            found=found,
        )

    def _pictures(self, names: list[str], model: ColmapModel) -> Found:
        """The files of images, in the folder the user names or one that has them."""
        if self.images is not None:
            folder = self.root / self.images
            if not is_folder(folder):
                raise FileNotFoundError(f"there is no folder of pictures {folder}")
            return find_pictures(names, self.root, [folder], lambda: [], self.follow_links)
        there = Listing(self.root)
        places = [
            self.root / spelled
            for name in _IMAGE_FOLDERS
            for spelled in there.matching(name, Form.EXACT, folders=True)
            or there.matching(name, Form.SPELLING, folders=True)
            or [name]
        ]

        def elsewhere() -> list[Path]:
            near = [model.folder, model.folder / "images"]
            return list(dict.fromkeys([*other_places(self.root, names), *near]))

        found = find_pictures(names, self.root, places, elsewhere, self.follow_links)
        if not found.paths and names and not any(place.is_symlink() for place in places):
            if not any(map(is_folder, places)):
                raise FileNotFoundError(
                    f"there is no folder of pictures {places[0]} or {places[1]}, and no other one "
                    f"has {names[0][:200]!r} ({found.looked}); move the pictures to {places[0]}"
                )
        return found

    def _model(self) -> tuple[ColmapModel, ColmapTables]:
        """The model with the most images of those that can be read."""
        models = _models(self._model_folder)
        if not models:
            raise FileNotFoundError(
                f"{self._model_folder} holds no COLMAP model (cameras and images, .bin or .txt), "
                "nor do sparse/0 and sparse in it"
            )
        problems: list[Exception] = []
        for model in self._largest_first(models):
            try:
                return model, model.tables()
            except (ValueError, OSError) as error:
                problems.append(error)
                _log.warning("%s: a COLMAP model is left out: %s", self.root, error)
        raise problems[0]

    def _largest_first(self, models: list[ColmapModel]) -> list[ColmapModel]:
        folders = {model.folder for model in models}
        if len(folders) == 1:
            return models
        counts = {model: _image_count(model) for model in models}
        # Of one folder's models, the binary one stays before the other.
        models = sorted(models, key=lambda model: (-counts[model], not model.is_binary))
        _log.warning(
            "%s: %d COLMAP models; %s with the most pictures (%d) is taken",
            self.root,
            len(folders),
            models[0].folder,
            counts[models[0]],
        )
        return models


def _no_camera(model: ColmapModel, tables: ColmapTables, number: int) -> str:
    """Why an image's camera cannot be used."""
    if number in tables.bad_cameras:
        return tables.bad_cameras[number]
    file = model.path("cameras").name
    unread = f" ({tables.bad_cameras[None]})" if None in tables.bad_cameras else ""
    return f"{model.path('images').name}: it is of camera {number}, which {file} lacks{unread}"


def _image_count(model: ColmapModel) -> int:
    try:
        return model.image_count()
    except (ValueError, OSError):
        return 0


def _scene_folder(path: Path) -> Path:
    """The folder that has the pictures: the given one or, of a model's folder, one above it."""
    if any(is_folder(path / name) for name in _IMAGE_FOLDERS) or not ColmapModel.all_in(path):
        return path
    # As the user wrote it, and as it is where links lead to: sparse/ may be one.
    for start in (Path(os.path.abspath(path)), path.resolve()):
        for above in list(start.parents)[:3]:
            if any(is_folder(above / name) for name in _IMAGE_FOLDERS):
                return above
    scene = Path(os.path.abspath(path))
    while scene.name.isdecimal() or scene.name in ("sparse", "colmap"):
        scene = scene.parent
    return scene


def _models(path: Path) -> list[ColmapModel]:
    """The models of the first place that has one."""
    for name in _MODEL_FOLDERS:
        base = path / name
        if models := ColmapModel.all_in(base):
            return models
        if name != "." and is_folder(base):
            numbered = sorted(
                (part for part in base.iterdir() if part.name.isdecimal()),
                key=lambda part: int(part.name),
            )
            found = [model for part in numbered for model in ColmapModel.all_in(part)]
            if found:
                return found
    return []
