"""Every reader there is: ours, and those that other packages bring.

Ours join by a line of ``_OURS``; those of other packages by an entry point of the group
``mvsplat.readers`` (``name = "module:Class"``). The first that recognises a path reads it: readers
of other packages, which somebody installed to be used, come before ours. Two of other packages that
both fit are an error that names them.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from mvsplat.data.readers.reader import Reader

GROUP = "mvsplat.readers"
_READERS = "mvsplat.data.readers"
# In the order in which they are asked.
_OURS = {
    "chunks": f"{_READERS}.kinds:ChunkReader",
    "transforms": f"{_READERS}.kinds:TransformsReader",
    "scannetpp": f"{_READERS}.captures.scannetpp:ScanNetPPReader",
    "llff": f"{_READERS}.captures.llff:LLFFReader",
    "colmap": f"{_READERS}.kinds:ColmapReader",
    "dtu": f"{_READERS}.kinds:DTUReader",
    "realestate10k": f"{_READERS}.kinds:RealEstate10KReader",
    "polycam": f"{_READERS}.captures.polycam:PolycamReader",
    "record3d": f"{_READERS}.captures.record3d:Record3DReader",
    "co3d": f"{_READERS}.captures.co3d:CO3DReader",
    "nerfies": f"{_READERS}.captures.nerfies:NerfiesReader",
    "nsvf": f"{_READERS}.captures.nsvf:NSVFReader",
    "realityscan": f"{_READERS}.captures.realityscan:RealityScanReader",
    "cameras": f"{_READERS}.captures.splat_cameras:SplatCamerasReader",
    "metashape": f"{_READERS}.captures.metashape:MetashapeReader",
}
_log = logging.getLogger("mvsplat.data")
_failed: set[Reader] = set()  # those that have been named


class NamedReader(NamedTuple):
    """A reader under the name that chooses it; ``origin`` says where it is from."""

    name: str
    reader: Reader
    origin: str


def readers() -> tuple[NamedReader, ...]:
    """All readers, in the order in which they are asked."""
    return (*_installed(tuple(sys.path)), *_ours())


def find_reader(name: str) -> NamedReader:
    """The reader of a name, or of a class named as ``package.module.Class``.

    Raises:
        ValueError: There is none, or it cannot be imported; says why.
    """
    for named in readers():
        if named.name == name:
            return named
    broken = [point for point in entry_points(group=GROUP) if point.name == name]
    if broken or "." in name:
        value = broken[0].value if broken else ":".join(name.rsplit(".", 1))
        try:
            return NamedReader(name, _load(value), value)
        except Exception as error:  # a module of a user's can raise anything
            raise ValueError(
                f"the reader {name!r} cannot be used: {value}: {_told(error)}"
            ) from error
    names = [named.name for named in readers()]
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"there is no format {name!r}{hint} Known are auto, {', '.join(names)}, and the import "
        "path of a reader (my_module.MyReader)"
    )


def recognise(path: Path) -> NamedReader | None:
    """The reader for what is at a path, if one recognises it.

    Raises:
        ValueError: Readers of two other packages do.
    """
    fitting = [named for named in _installed(tuple(sys.path)) if _recognises(named, path)]
    if len(fitting) > 1:
        both = " and ".join(f"{named.name!r} ({named.origin})" for named in fitting)
        raise ValueError(
            f"{path} is recognised by the readers {both}: say which with format (--format NAME)"
        )
    if fitting:
        return fitting[0]
    return next((named for named in _ours() if _recognises(named, path)), None)


def nearly(path: Path) -> list[str]:
    """What the readers nearly found at a path that none recognises."""
    found = [_guarded(named, "nearly", path) for named in readers()]
    return [finding for finding in found if isinstance(finding, str) and finding]


def expected() -> str:
    """What all readers look for, as a list in words."""
    return "; ".join(named.reader.expected for named in readers())


@lru_cache(maxsize=1)
def _ours() -> tuple[NamedReader, ...]:
    return tuple(NamedReader(name, _load(value), "mvsplat") for name, value in _OURS.items())


@lru_cache(maxsize=8)
def _installed(search_path: tuple[str, ...]) -> tuple[NamedReader, ...]:
    """Those of other packages on the search path; what cannot be imported is named and left out."""
    return tuple(_usable(tuple(entry_points(group=GROUP))))


def _usable(points: Iterable[EntryPoint]) -> Iterator[NamedReader]:
    seen: set[str] = set(_OURS)
    for point in points:
        package = f" of {point.dist.name}" if point.dist is not None else ""
        origin = f"{point.value}{package}"
        if point.name in seen:
            _log.warning(
                "the reader %r (%s) is left out: the name is taken, give it another one",
                point.name,
                origin,
            )
            continue
        seen.add(point.name)
        try:
            yield NamedReader(point.name, _load(point.value), origin)
        except Exception as error:  # a module of a user's can raise anything
            _log.warning("the reader %r (%s) is left out: %s", point.name, origin, _told(error))


def _load(value: str) -> Reader:
    """A reader of its class, named as ``module:Class``."""
    module, _, name = value.partition(":")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, Reader)):
        raise TypeError("it is no class derived from mvsplat.data.Reader")
    if not isinstance(getattr(kind, "expected", None), str):
        raise TypeError("it does not say what is `expected`, in words")
    return kind()


def _recognises(named: NamedReader, path: Path) -> bool:
    return bool(_guarded(named, "recognises", path))


def _guarded(named: NamedReader, question: str, path: Path) -> object:
    """A reader's answer about a path; one that fails is named, and the others go on."""
    try:
        return getattr(named.reader, question)(path)
    except Exception as error:  # a reader of a user's can stumble over anything
        if named.reader not in _failed:
            _failed.add(named.reader)
            _log.warning(
                "the reader %r (%s) failed at %s and is passed over: %s",
                named.name,
                named.origin,
                path,
                _told(error),
            )
        return None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
