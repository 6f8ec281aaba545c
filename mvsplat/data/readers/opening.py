"""Finding out what kind of data a path holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from mvsplat.data.chunks.chunk_scenes import ChunkFiles, ChunkScenes
from mvsplat.data.chunks.storage import chunk_paths
from mvsplat.data.readers.colmap import ColmapScenes
from mvsplat.data.readers.dtu import DTUScenes
from mvsplat.data.readers.realestate10k import RealEstate10KScenes
from mvsplat.data.readers.transforms_json import TransformsScenes
from mvsplat.data.scene import SPLITS, Scene, SceneSource, Split
from mvsplat.data.untrusted import is_file, is_folder

Format = Literal["auto", "chunks", "transforms", "colmap", "dtu", "realestate10k"]

_EXPECTED = (
    "chunks (train/ and test/ with .torch files), a COLMAP model (sparse/0 beside images/), "
    "transforms.json, DTU scans (scan1/images and scan1/cams) or RealEstate10K camera files"
)


class UnknownFormat(ValueError):
    """What is at a path is none of the formats."""


def open_scenes(path: str | Path, format: Format = "auto", split: Split = "test") -> SceneSource:
    """The scenes at a path, whatever format they have.

    Recognised are folders of chunks and single ``.torch`` chunks, ``transforms.json`` (nerfstudio,
    instant-ngp, Blender), COLMAP models, DTU scans, RealEstate10K's camera files with frames, and
    folders whose subfolders are of these.

    Args:
        path: A folder or file.
        format: What it is; "auto" looks.
        split: The split that scenes are in where the data has no splits: single scenes, say.

    Raises:
        FileNotFoundError: There is nothing at the path.
        UnknownFormat: It is none of the formats.
    """
    path = Path(path)
    if not is_folder(path) and not is_file(path):
        raise FileNotFoundError(f"there is no file or folder {path}")
    if format != "auto":
        return _OPENERS[format](path, split)
    source = _recognised(path, split)
    if source is not None:
        return source
    found = [name for name, _ in islice(_children(path, split), 1)]
    if found:
        return GatheredScenes(str(path), split)
    raise UnknownFormat(
        f"{path} is no data of a known kind: expected {_EXPECTED}; {_listing(path)}"
    )


class GatheredScenes(SceneSource):
    """The scenes of all subfolders that hold some, of whatever formats.

    A subfolder of one scene gives it the subfolder's name; scenes of a subfolder with several are
    called SUBFOLDER/SCENE.

    Args:
        root: The folder of the subfolders.
        split: The split that scenes without one are in.
    """

    def __init__(self, root: str, split: Split = "test") -> None:
        self.root = Path(root)
        self.split = split
        self._sources: dict[str, SceneSource] | None = None
        self._names: dict[Split, dict[str, _Member]] = {}

    def keys(self, split: Split) -> Sequence[str]:
        return list(self._listed(split))

    def scene(self, split: Split, key: str) -> Scene:
        if key not in self._listed(split):
            raise ValueError(f"{self.root} has no {split} scene {key!r}")
        member = self._listed(split)[key]
        scene = member.source.scene(split, member.key)
        scene.key = key
        return scene

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        return _groups_of(self._listed(split))

    def _found(self) -> dict[str, SceneSource]:
        if self._sources is None:
            if not is_folder(self.root):
                raise FileNotFoundError(f"{self.root} is no folder")
            self._sources = dict(_children(self.root, self.split))
        return self._sources

    def _listed(self, split: Split) -> "dict[str, _Member]":
        """The scenes of a split by our names, found once."""
        if split not in self._names:
            listed: dict[str, _Member] = {}
            for name, source in self._found().items():
                single = isinstance(source, (ColmapScenes, TransformsScenes))
                for key in keys_or_none(source, split):
                    ours = name if single else f"{name}/{key}"
                    listed[ours] = _Member(source, split, key)
            self._names[split] = listed
        return self._names[split]


class AnyScenes(SceneSource):
    """Scenes at any paths, of any formats, each recognised by what is there.

    Args:
        train: Folders or files whose scenes to train on: chunks, COLMAP models, transforms.json,
            DTU scans, RealEstate10K camera files, or folders of such folders.
        test: Those to validate and test on.
        format: What all of them are; auto looks at each.
    """

    def __init__(
        self,
        train: list[str] = [],
        test: list[str] = [],
        format: Format = "auto",  # noqa: B006
    ) -> None:
        if not train and not test:
            raise ValueError("train and test are empty; name at least one folder")
        self.paths: dict[Split, list[str]] = {"train": list(train), "test": list(test)}
        self.format = format
        self._scenes: dict[Split, dict[str, _Member]] = {}

    def keys(self, split: Split) -> Sequence[str]:
        return list(self._listed(split))

    def scene(self, split: Split, key: str) -> Scene:
        if key not in self._listed(split):
            raise ValueError(f"no scene {key!r} in {', '.join(self.paths[split])}")
        member = self._listed(split)[key]
        return member.source.scene(member.split, member.key)

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        return _groups_of(self._listed(split))

    def _listed(self, split: Split) -> "dict[str, _Member]":
        if split not in self._scenes:
            listed: dict[str, _Member] = {}
            for path in self.paths[split]:
                source = open_scenes(path, self.format, split)
                for theirs, key in scenes_for(source, split):
                    if key in listed:
                        raise ValueError(f"two {split} scenes are called {key!r}, one in {path}")
                    listed[key] = _Member(source, theirs, key)
            self._scenes[split] = listed
        return self._scenes[split]


class _Member(NamedTuple):
    """Where a scene of a wrapper comes from: the source, and what that calls its split and it."""

    source: SceneSource
    split: Split
    key: str


def _groups_of(members: Mapping[str, _Member]) -> list[list[str]]:
    """The wrapped sources' own groups, by the wrapper's names."""
    ours: dict[tuple[int, Split], dict[str, str]] = {}
    sources: dict[tuple[int, Split], SceneSource] = {}
    for name, member in members.items():
        identity = (id(member.source), member.split)
        sources[identity] = member.source
        ours.setdefault(identity, {})[member.key] = name
    return [
        [names[key] for key in group]
        for (number, split), names in ours.items()
        for group in sources[number, split].groups(split)
    ]


def scenes_for(source: SceneSource, split: Split) -> list[tuple[Split, str]]:
    """A source's scenes for a split: its own ones of that split or, if it has none, all others."""
    for theirs in sorted(SPLITS, key=lambda name: name != split):
        keys = keys_or_none(source, theirs)
        if keys:
            return [(theirs, key) for key in keys]
    return []


def keys_or_none(source: SceneSource, split: Split) -> Sequence[str]:
    """The keys of a split; empty where the data lacks the split altogether."""
    try:
        return source.keys(split)
    except FileNotFoundError:
        return []


def _chunks(path: Path, split: Split) -> SceneSource:
    if is_file(path):
        return ChunkFiles([str(path)], split)
    if any(is_folder(path / name) for name in SPLITS):
        return ChunkScenes(str(path))
    files = [str(file) for file in chunk_paths(path)]
    if not files:
        raise FileNotFoundError(f"{path} holds no .torch chunks, nor do train/ and test/ in it")
    return ChunkFiles(files, next((name for name in SPLITS if name == path.name), split))


_OPENERS: Mapping[str, Callable[[Path, Split], SceneSource]] = {
    "chunks": _chunks,
    "transforms": lambda path, split: TransformsScenes(str(path), split),
    "colmap": lambda path, split: ColmapScenes(str(path), split=split),
    "dtu": lambda path, split: DTUScenes(str(path)),
    "realestate10k": lambda path, split: RealEstate10KScenes(str(path)),
}
_RECOGNISED_BY: Mapping[str, Callable[[Path], bool]] = {
    "chunks": lambda path: _holds_chunks(path),
    "transforms": TransformsScenes.recognises,
    "colmap": ColmapScenes.recognises,
    "dtu": DTUScenes.recognises,
    "realestate10k": RealEstate10KScenes.recognises,
}


def _recognised(path: Path, split: Split) -> SceneSource | None:
    for format, recognises in _RECOGNISED_BY.items():
        if recognises(path):
            return _OPENERS[format](path, split)
    return None


def _holds_chunks(path: Path) -> bool:
    if is_file(path):
        return path.suffix == ".torch"
    folders = [path, *(path / name for name in SPLITS)]
    return any(is_folder(folder) and chunk_paths(folder) for folder in folders)


def _children(path: Path, split: Split) -> Iterator[tuple[str, SceneSource]]:
    """Subfolders that hold scenes, by name."""
    if not is_folder(path):
        return
    for child in sorted(path.iterdir()):
        if is_folder(child) and not child.name.startswith("."):
            source = _recognised(child, split)
            if source is not None:
                yield child.name, source


def _listing(path: Path) -> str:
    if is_file(path):
        return f"it is a {path.suffix or 'nameless'} file"
    names = [entry.name for entry in islice(sorted(path.iterdir()), 6)]
    return f"it holds {', '.join(names)}, ..." if names else "it is empty"
