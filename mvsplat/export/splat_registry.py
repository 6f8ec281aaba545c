"""Every splat format there is, by suffix: ours, and those that other packages bring.

Ours join by a line of ``_OURS``; those of other packages by an entry point of the group
``mvsplat.splat_formats`` (``suffix = "module:Class"``). Where both have a suffix, the other
package's format, which somebody installed to be used, comes first; two of other packages with one
suffix are an error that names them.
"""

import logging
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple, NoReturn

from mvsplat.export.foreign_splats import foreign_format, misnamed
from mvsplat.export.splat_format import SplatFormat

GROUP = "mvsplat.splat_formats"
_SOG_TEXT = "meta.json"
_OURS = {
    ".ply": "mvsplat.export.ply:PlyFormat",
    ".compressed.ply": "mvsplat.export.ply:CompressedPlyFormat",
    ".splat": "mvsplat.export.formats.splat:AntimatterSplatFormat",
    ".spz": "mvsplat.export.formats.spz:SpzFormat",
    ".glb": "mvsplat.export.formats.gltf:GlbFormat",
    ".gltf": "mvsplat.export.formats.gltf:GltfFormat",
    ".sog": "mvsplat.export.formats.sog:SogFormat",
    _SOG_TEXT: "mvsplat.export.formats.sog:SogFolderFormat",
    ".html": "mvsplat.export.page.html_format:HtmlFormat",
    ".ksplat": "mvsplat.export.formats.ksplat:KsplatFormat",
}
_log = logging.getLogger("mvsplat.export")


class NamedFormat(NamedTuple):
    """A format and the suffix, in lower case, that chooses it; ``origin`` says where it is from.

    Without a dot the suffix is a file's whole name.
    """

    suffix: str
    format: SplatFormat
    origin: str


def is_readable(path: Path) -> bool:
    """Whether a file is named as one of a format that is read, and may be one."""
    name = path.name.lower()
    return any(
        named.format.reads and _is_named(name, named.suffix) and named.format.recognises(path)
        for named in _formats()
    )


def is_named_like_a_splat(path: str | Path) -> bool:
    """Whether a file of this name can be written as a splat."""
    found = _chosen(Path(path))
    return found is not None and found.format.writes


def writing(path: str | Path) -> NamedFormat:
    """The format in which a file of this name is written.

    Raises:
        ValueError: There is none of this suffix; lists what there is.
    """
    found = _chosen(Path(path))
    if found is None or not found.format.writes:
        _refuse(Path(path), "written", lambda format: format.writes)
    return found


def located(path: str | Path) -> Path:
    """The file to read at a path: in a folder that is a SOG scene, its ``meta.json``."""
    inside = Path(path, _SOG_TEXT)
    return inside if inside.is_file() else Path(path)


def reading(path: str | Path) -> NamedFormat:
    """The format in which an existing file is read; PLY files are recognised by their first bytes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of no format that is read; says of which it is, or lists what there is.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no splat at {path}: there is no such file")
    found = _chosen(path)
    if found is not None and found.format.reads:
        if found.origin == "mvsplat" and (other := misnamed(path, found.suffix)):
            raise ValueError(f"{path} is {other}")
        return found
    with path.open("rb") as file:
        head = file.read(4)
    if found is None and head in (b"ply\n", b"ply\r"):
        return next(named for named in _formats() if named.suffix == ".ply")
    if found is None and (foreign := foreign_format(path)):
        raise ValueError(f"{path} is {foreign}")
    _refuse(path, "read", lambda format: format.reads)


def _chosen(path: Path) -> NamedFormat | None:
    """The format of the longest suffix that a file's name ends in."""
    fitting = [named for named in _formats() if _is_named(path.name.lower(), named.suffix)]
    if not fitting:
        return None
    longest = max(len(named.suffix) for named in fitting)
    fitting = [named for named in fitting if len(named.suffix) == longest]
    installed = [named for named in fitting if named not in _ours()]
    if len(installed) > 1:
        both = " and ".join(named.origin for named in installed)
        raise ValueError(
            f"{path}: {both} are both installed for {installed[0].suffix} files: uninstall one"
        )
    return (installed or fitting)[0]


def _is_named(name: str, suffix: str) -> bool:
    """Whether a file is one of a suffix, or is called so where a format has one name only."""
    return name.endswith(suffix) if suffix[0] == "." else name == suffix


def _refuse(path: Path, done: str, able: Callable[[SplatFormat], bool]) -> NoReturn:
    known = ", ".join(f"{n.suffix} ({n.format.about})" for n in _formats() if able(n.format))
    found = f"files with the suffix {path.suffix!r}" if path.suffix else "files without a suffix"
    raise ValueError(f"{path}: {found} are not {done}. Splats are {done} as {known}")


def _formats() -> tuple[NamedFormat, ...]:
    return (*_installed(tuple(sys.path)), *_ours())


@lru_cache(maxsize=1)
def _ours() -> tuple[NamedFormat, ...]:
    return tuple(NamedFormat(suffix, _load(value), "mvsplat") for suffix, value in _OURS.items())


@lru_cache(maxsize=8)
def _installed(search_path: tuple[str, ...]) -> tuple[NamedFormat, ...]:
    """Those of other packages on the search path; what cannot be imported is named and left out."""
    found = (_usable(point) for point in entry_points(group=GROUP))
    return tuple(named for named in found if named is not None)


def _usable(point: EntryPoint) -> NamedFormat | None:
    package = f" of {point.dist.name}" if point.dist is not None else ""
    origin = f"{point.value}{package}"
    try:
        return NamedFormat(f".{point.name.lstrip('.').lower()}", _load(point.value), origin)
    except Exception as error:  # a module of a user's can raise anything
        _log.warning(
            "the splat format %r (%s) is left out: %s: %s",
            point.name,
            origin,
            type(error).__name__,
            error,
        )
        return None


def _load(value: str) -> SplatFormat:
    """A format of its class, named as ``module:Class``."""
    module, _, name = value.partition(":")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, SplatFormat)):
        raise TypeError("it is no class derived from mvsplat.export.SplatFormat")
    return kind()
