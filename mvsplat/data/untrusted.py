"""Reading what others wrote: text and JSON with plain errors, paths that stay in their folder."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LARGEST_TEXT = 1 << 30


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no UTF-8 text, or too large to be what it claims.
    """
    if not is_file(path):
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{path} is {path.stat().st_size >> 20} MB large, expected a text file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged, or no text file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, no object, or has a key twice.
    """
    try:
        content = json.loads(read_text(path), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError(f"{path} is no valid JSON: it is nested too deeply") from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object {{...}}")
    return content


def inside(folder: Path, name: str, follow_links: bool = False) -> Path:
    """The path of a file that some data names relative to its folder.

    Raises:
        ValueError: The name is empty or leaves the folder, by ``..``, from the root, or, unless
            ``follow_links``, through a symbolic link.
    """
    relative = name.replace("\\", "/")
    if not relative or "\0" in relative:
        raise ValueError(f"{name[:100]!r} is no name of a file")
    if relative.startswith("/") or re.match("[A-Za-z]:", relative) or ".." in relative.split("/"):
        raise ValueError(
            f"{_short(name)} leaves the folder {folder}; files must lie in it, named relative to it"
        )
    path = folder / relative
    if not follow_links:
        real, base = os.path.realpath(path), os.path.realpath(folder)
        if real != base and not real.startswith(base.rstrip("/") + "/"):
            raise ValueError(
                f"{_short(name)} is a symbolic link out of the folder {folder}; set follow_links "
                "if you trust this data"
            )
    return path


def is_file(path: Path) -> bool:
    """Whether there is such a file; names that no file can have are no error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; names that no folder can have are no error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def in_natural_order(names: Sequence[str]) -> list[int]:
    """Positions of the names in order, with numbers in them counted: frame2 before frame10."""

    def key(position: int) -> list[tuple[int, int | str]]:
        parts = re.split(r"(\d{1,18})", names[position])
        return [(0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts)]

    return sorted(range(len(names)), key=key)


def _short(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:100]}...")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {_short(key)} is there twice")
        result[key] = value
    return result
