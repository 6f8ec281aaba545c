"""How chunks, transforms.json, COLMAP models, DTU and RealEstate10K are recognised and opened."""

import re
from itertools import islice
from pathlib import Path

from mvsplat.data.chunks.chunk_scenes import ChunkFiles, ChunkScenes
from mvsplat.data.chunks.storage import chunk_paths
from mvsplat.data.readers.clutter import entries, folders_below, subfolders
from mvsplat.data.readers.colmap import ColmapScenes
from mvsplat.data.readers.colmap_model import ColmapModel
from mvsplat.data.readers.dtu import DTUScenes
from mvsplat.data.readers.reader import Reader
from mvsplat.data.readers.realestate10k import RealEstate10KScenes
from mvsplat.data.readers.transforms_json import TransformsScenes
from mvsplat.data.scene import SPLITS, SceneSource, Split
from mvsplat.data.storage.addresses import Location
from mvsplat.data.untrusted import is_file, is_folder

_HEAD = 1 << 16
_LOOKED_AT = 50
_COLMAP_TABLE = re.compile(r"(cameras|images|points3D)\.(txt|bin)$", re.IGNORECASE)


class ChunkReader(Reader):
    """Folders of chunks and single ``.torch`` files."""

    expected = "chunks (train/ and test/ with .torch files)"

    def recognises(self, path: Location) -> bool:
        if is_file(path):
            return path.suffix == ".torch"
        folders: list[Location] = [path, *(path / name for name in SPLITS)]
        return any(is_folder(folder) and chunk_paths(folder) for folder in folders)

    def nearly(self, path: Path) -> str | None:
        for folder in (path, *(path / name for name in SPLITS)):
            if is_file(folder / "index.json") and b".torch" in _head(folder / "index.json"):
                return (
                    f"{folder / 'index.json'} names chunks, but no .torch file is beside it: fetch "
                    "them, or name the folder that has them"
                )
        return None

    def open(self, path: Location, split: Split) -> SceneSource:
        if is_file(path):
            return ChunkFiles([str(path)], split)
        if any(is_folder(path / name) for name in SPLITS):
            return ChunkScenes(str(path))
        files = [str(file) for file in chunk_paths(path)]
        if not files:
            raise FileNotFoundError(f"{path} holds no .torch chunks, nor do train/ and test/ in it")
        return ChunkFiles(files, next((name for name in SPLITS if name == path.name), split))


class TransformsReader(Reader):
    """``transforms.json`` of nerfstudio, instant-ngp, Blender and many capture apps."""

    expected = "transforms.json (nerfstudio, instant-ngp, Blender; the file may also be named)"

    def recognises(self, path: Path) -> bool:
        if is_file(path):
            return path.suffix.lower() == ".json" and (
                "transforms" in path.name.lower() or _has_frames(path)
            )
        return TransformsScenes.recognises(path)

    def nearly(self, path: Path) -> str | None:
        """A file of another name: by its name, or by what is in it."""
        files = [file for file in entries(path) if "json" in file.name.lower() and is_file(file)]
        alike = [file for file in files if "transform" in file.name.lower()]
        found = alike or [file for file in files[:_LOOKED_AT] if _has_frames(file)]
        if not found:
            return None
        way_out = (
            f"name the file itself, {found[0]}"
            if found[0].suffix.lower() == ".json"
            else "rename it to transforms.json"
        )
        others = f" (and {', '.join(file.name for file in found[1:4])})" if found[1:] else ""
        return (
            f"{path} holds no transforms.json; did you mean {found[0].name}{others}? If its "
            f"cameras are the pictures', {way_out}"
        )

    def open(self, path: Path, split: Split) -> SceneSource:
        return TransformsScenes(str(path), split)


class ColmapReader(Reader):
    """COLMAP models, text or binary, beside their pictures."""

    expected = "a COLMAP model (sparse/0 beside images/)"
    _PLACES = ("sparse", "colmap", "model", "dense", "distorted")

    def recognises(self, path: Path) -> bool:
        return ColmapScenes.recognises(path) or self._deeper(path) is not None

    def open(self, path: Path, split: Split) -> SceneSource:
        deeper = None if ColmapScenes.recognises(path) else self._deeper(path)
        return ColmapScenes(str(path if deeper is None else deeper), split=split)

    def nearly(self, path: Path) -> str | None:
        """A folder with one of the two tables, with each in another form, or in another case."""
        places = [folder for folder in subfolders(path) if folder.name.lower() in self._PLACES]
        deep = [folder for place in places for folder in islice(folders_below(place, 3), 60)]
        for folder in (path, *places, *deep):
            tables = [file.name for file in entries(folder) if _COLMAP_TABLE.match(file.name)]
            has = {name.split(".")[0].lower() for name in tables}
            # In a folder that is named like a model's, one of them says enough.
            if has & {"cameras", "images"} and (folder != path or len(has) > 1):
                return self._missing(folder, tables, has)
        return None

    def _missing(self, folder: Path, tables: list[str], has: set[str]) -> str:
        found = f"{folder} nearly holds a COLMAP model: it has {', '.join(tables)}, but "
        missing = [table for table in ("cameras", "images") if table not in has]
        if missing:
            return f"{found}no {missing[0]}.bin or {missing[0]}.txt: add it"
        return (
            f"{found}cameras and images must both be .bin or both .txt, in lower case: rename "
            "them, add the other file, or export the model again (colmap model_converter)"
        )

    def _deeper(self, path: Path) -> Path | None:
        """A model's folder deeper than usual: sparse/0/0, say."""
        for place in ("sparse", "colmap"):
            for folder in islice(folders_below(path / place, 3), 60):
                if ColmapModel.all_in(folder):
                    return folder
        return None


class DTUReader(Reader):
    """DTU, and what else has MVSNet's camera files."""

    expected = "DTU scans (scan1/images and scan1/cams)"

    def recognises(self, path: Path) -> bool:
        return DTUScenes.recognises(path)

    def nearly(self, path: Path) -> str | None:
        cameras = [
            folder
            for folder in subfolders(path)
            if folder.name.lower().startswith("cam")
            and any(file.name.endswith("_cam.txt") for file in entries(folder))
        ]
        if not cameras:
            return None
        if is_folder(path / "images"):
            return (
                f"{path} has camera files as DTU's in {cameras[0].name}/ and pictures in images/: "
                "rename the former to cams/"
            )
        others = [folder.name for folder in subfolders(path) if folder != cameras[0]]
        there = f" (is it {others[0]}/?)" if others else ""
        return (
            f"{path} has camera files as DTU's in {cameras[0].name}/, but their pictures are "
            f"missing: expected them in images/{there}"
        )

    def open(self, path: Path, split: Split) -> SceneSource:
        return DTUScenes(str(path))


class RealEstate10KReader(Reader):
    """RealEstate10K's and ACID's camera files."""

    expected = "RealEstate10K camera files (train/KEY.txt, test/KEY.txt and frames/)"

    def recognises(self, path: Path) -> bool:
        return RealEstate10KScenes.recognises(path)

    def nearly(self, path: Path) -> str | None:
        for folder in (path, *(path / name for name in SPLITS)):
            for file in [f for f in entries(folder) if f.suffix == ".txt"][:_LOOKED_AT]:
                lines = _head(file).split(b"\n")
                if re.match(rb"https?://\S+\s*$", lines[0]) and len(lines) > 1:
                    count = len(lines[1].split())
                    return (
                        f"{file} begins with an address, as RealEstate10K's camera files do, but "
                        f"its second line has {count} words, expected a time stamp and 18 numbers"
                    )
        return None

    def open(self, path: Path, split: Split) -> SceneSource:
        return RealEstate10KScenes(str(path))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _has_frames(path: Path) -> bool:
    """Whether the beginning of a JSON file names what transforms.json is made of."""
    head = _head(path)
    return b'"transform_matrix"' in head or b'"frames"' in head and b'"file_path"' in head
