"""Finding out what kind of data a path holds."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from mvsplat.data.chunks.storage import MissingIndex
from mvsplat.data.readers import registry
from mvsplat.data.readers.clutter import folders_below, subfolders
from mvsplat.data.readers.foreign import foreign_cameras
from mvsplat.data.readers.kinds import ChunkReader
from mvsplat.data.readers.reader import OneScene
from mvsplat.data.readers.registry import NamedReader
from mvsplat.data.readers.single import SingleScene
from mvsplat.data.scene import SPLITS, Scene, SceneSource, Split
from mvsplat.data.storage.addresses import Address, location
from mvsplat.data.untrusted import is_file, is_folder

Format = str
"""The name of a reader (chunks, transforms, colmap, ...), a reader's import path, or auto."""

_DEPTH, _DEEPEST = 2, 6
_LOOKED_AT = 300
_LOOKED_AHEAD = 2000
_TOLD = 3
_log = logging.getLogger("mvsplat.data")


class UnknownFormat(ValueError):
    """What is at a path is none of the formats."""


class NearlyKnown(ValueError):
    """What is at a path is nearly one of the formats; the message says what is missing.

    Args:
        message: The findings.
        below: Whether they are of folders below the path, not of the path itself.
    """

    def __init__(self, message: str, below: bool = False) -> None:
        super().__init__(message)
        self.below = below


def open_scenes(path: str | Path, format: Format = "auto", split: Split = "test") -> SceneSource:
    """The scenes at a path, whatever format they have.

    Every registered reader is asked whether it recognises what is there
    (:mod:`mvsplat.data.readers.registry`: chunks, transforms.json, COLMAP models, DTU,
    RealEstate10K, exports of capture apps, and what other packages bring); then those in the
    folders one and two levels below.

    Args:
        path: A folder or file; the address of chunks in object storage, too (s3://bucket/folder).
        format: What it is: the name of a reader, or the import path of one (my_module.MyReader);
            "auto" looks.
        split: The split that scenes are in where the data has no splits: single scenes, say.

    Raises:
        FileNotFoundError: There is nothing at the path.
        UnknownFormat: It is none of the formats.
        NearlyKnown: It is nearly one: a file has another name, or one is missing.
        ValueError: There is no such format, or two readers of other packages fit.
    """
    place = location(path)
    if isinstance(place, Address):
        return _open_stored(place, format, split)
    path = place
    if not is_folder(path) and not is_file(path):
        raise FileNotFoundError(f"there is no file or folder {path}")
    if format != "auto":
        return _open(registry.find_reader(format), path, split)
    source = _recognised(path, split)
    if source is not None:
        return source
    if next(_children(path, split), None) is not None:
        return GatheredScenes(str(path), split)
    _raise_if_nearly_known(path)
    raise UnknownFormat(
        f"{path} is no data of a known kind: expected {registry.expected()}; or folders of these. "
        f"{_listing(path)}"
    )


class GatheredScenes(SceneSource):
    """The scenes of all subfolders that hold some, of whatever formats, one or two levels down.

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
        scene = member.source.scene(member.split, member.key)
        scene.key = key
        return scene

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        return _groups_of(self._listed(split))

    def _found(self) -> dict[str, SceneSource]:
        if self._sources is None:
            if not is_folder(self.root):
                raise FileNotFoundError(f"{self.root} is no folder")
            self._sources = dict(_children(self.root, self.split, tell=True))
        return self._sources

    def _listed(self, split: Split) -> "dict[str, _Member]":
        """The scenes of a split by our names, found once."""
        if split not in self._names:
            listed: dict[str, _Member] = {}
            for name, source in self._found().items():
                single = isinstance(source, (SingleScene, OneScene))
                for key in keys_or_none(source, split):
                    ours = name if single else f"{name}/{key}"
                    listed[ours] = _Member(source, split, key)
            self._names[split] = listed
        return self._names[split]


class AnyScenes(SceneSource):
    """Scenes at any paths, of any formats, each recognised by what is there.

    Args:
        train: Folders or files whose scenes to train on: chunks, COLMAP models, transforms.json,
            DTU scans, RealEstate10K camera files, exports of capture apps, or folders of such.
        test: Those to validate and test on.
        format: What all of them are: the name or the import path of a reader; auto looks at each.
    """

    def __init__(
        self,
        train: list[str] = [],
        test: list[str] = [],
        format: Format = "auto",  # noqa: B006
    ) -> None:
        if not train and not test:
            raise ValueError("train and test are empty; name at least one folder")
        if format != "auto":
            registry.find_reader(format)  # a wrong name is said now
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

    def expect(self, split: Split, keys: Iterable[str]) -> None:
        members = self._listed(split)
        upcoming = (members[key] for key in islice(keys, _LOOKED_AHEAD))
        first = next(upcoming, None)
        if first is not None:  # the others' turn comes when one of theirs is the first
            own = (each for each in chain([first], upcoming) if each.source is first.source)
            first.source.expect(first.split, (each.key for each in own))

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        return _groups_of(self._listed(split))

    def _listed(self, split: Split) -> "dict[str, _Member]":
        if split not in self._scenes:
            listed: dict[str, _Member] = {}
            for path in self.paths[split]:
                source = open_scenes(path, self.format, split)
                source.cache = self.cache
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


def scene_keys(
    source: SceneSource, path: Path, wanted: str | None = None
) -> list[tuple[Split, str]]:
    """All scenes of a source with their splits, or those of a name.

    Args:
        source: What was opened.
        path: Where, for messages.
        wanted: The name; None takes all.

    Raises:
        ValueError: There are none, or none of this name.
    """
    keys = [(split, key) for split in reversed(SPLITS) for key in keys_or_none(source, split)]
    if not keys:
        raise ValueError(f"{path} holds no scenes")
    if wanted is None:
        return keys
    chosen = [(split, key) for split, key in keys if key == wanted]
    if not chosen:
        known = ", ".join(key for _, key in keys[:5])
        raise ValueError(f"{path} has no scene {wanted!r}; it has {known}, {len(keys)} in all")
    return chosen[:1]


def keys_or_none(source: SceneSource, split: Split) -> Sequence[str]:
    """The keys of a split; empty where the data lacks the split altogether."""
    try:
        return source.keys(split)
    except MissingIndex:  # the split is there
        raise
    except FileNotFoundError:
        return []


def _recognised(path: Path, split: Split) -> SceneSource | None:
    named = registry.recognise(path)
    return None if named is None else _open(named, path, split)


def _open(named: NamedReader, path: Path, split: Split) -> SceneSource:
    try:
        source = named.reader.open(path, split)
    except (ValueError, OSError):
        raise
    except Exception as error:  # a reader of a user's can stumble over anything
        raise ValueError(
            f"{path}: the reader {named.name!r} ({named.origin}) failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(source, SceneSource):
        raise ValueError(
            f"{path}: the reader {named.name!r} ({named.origin}) opened it as {source!r:.80}, "
            "expected a SceneSource"
        )
    return source


def _open_stored(address: Address, format: Format, split: Split) -> SceneSource:
    """Chunks in object storage: all else is read in pieces too small for it."""
    if format not in ("auto", "chunks"):
        raise ValueError(
            f"{address}: only chunks are read from object storage, not {format}; copy the data "
            "here, and write chunks with mvsplat convert DATA --output s3://..."
        )
    reader = ChunkReader()
    if not reader.recognises(address):
        raise FileNotFoundError(
            f"{address} holds no .torch chunks, nor do train/ and test/ in it (of object storage, "
            "only chunks are read)"
        )
    return reader.open(address, split)


def _children(
    path: Path, split: Split, depth: int = _DEPTH, tell: bool = False
) -> Iterator[tuple[str, SceneSource]]:
    """Subfolders that hold scenes, by name; ``tell`` names those that nearly do, too."""
    for child in subfolders(path):
        source = _recognised(child, split)
        if source is not None:
            yield child.name, source
        elif depth > 1:
            for name, below in _children(child, split, depth - 1, tell):
                yield f"{child.name}/{name}", below
        if source is None and tell:
            for finding in _nearly(child):
                _log.warning("left out: %s", finding)


def _raise_if_nearly_known(path: Path) -> None:
    findings = _nearly(path)
    if findings:
        raise NearlyKnown("; ".join(findings))
    for folder in islice(folders_below(path, _DEPTH), _LOOKED_AT):
        findings += _nearly(folder)
    if findings:
        raise NearlyKnown("; ".join(findings[:_TOLD]), below=True)
    for folder in islice(folders_below(path, _DEEPEST), _LOOKED_AT):
        if (named := registry.recognise(folder)) is not None:
            raise NearlyKnown(
                f"{path} holds no scenes one or two folders down; did you mean {folder.parent}, or "
                f"the scene {folder} ({named.name})?",
                below=True,
            )


def _nearly(path: Path) -> list[str]:
    """What nearly is of a known kind there, or is another program's."""
    foreign = foreign_cameras(path)
    return registry.nearly(path) or ([foreign] if foreign else [])


def _listing(path: Path) -> str:
    if is_file(path):
        return f"It is a {path.suffix or 'nameless'} file"
    names = [entry.name for entry in islice(sorted(path.iterdir()), 6)]
    return f"It holds {', '.join(names)}, ..." if names else "It is empty"
