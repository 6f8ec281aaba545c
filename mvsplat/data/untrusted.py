"""Reading what others wrote: text and JSON with plain errors, paths that stay in their folder."""

import json
import re
from collections.abc import Sequence
from typing import Any

from mvsplat.data.storage.addresses import Location

_LARGEST_TEXT = 1 << 30
# Strings, which stay, and what C's libraries print for numbers that are not finite, which is no
# JSON: -nan(ind), 1.#QNAN, inf.
_NOT_FINITE = re.compile(
    r'"(?:[^"\\]|\\.)*"|[-+]?(?:nan(?:\([a-z_]*\))?|inf(?:inity)?|\d\.?\d*#[a-z]+\d*)',
    re.IGNORECASE,
)


def read_text(path: Location, older_encoding: bool = False) -> str:
    """A text file's content.

    Args:
        path: The file.
        older_encoding: Whether what is no UTF-8 may be Windows-1252.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, or too large to be what it claims.
    """
    if not is_file(path):
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{path} is {path.stat().st_size >> 20} MB large, expected a text file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        if older_encoding:
            return path.read_text(encoding="cp1252", errors="replace")
        raise ValueError(f"{path} is damaged, or no text file: {error}") from error


def read_json(path: Location) -> dict[str, Any]:
    """A JSON file's object; numbers that are not finite, however they are spelled, are NaN.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, no object, or has a key twice.
    """
    try:
        content = _parsed(path)
    except RecursionError:
        raise ValueError(f"{path} is no valid JSON: it is nested too deeply") from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object {{...}}")
    return content


def _parsed(path: Location) -> Any:
    try:
        text = read_text(path)
    except ValueError:
        try:
            return _parsed_text(read_text(path, older_encoding=True))
        except (ValueError, RecursionError):
            pass
        raise
    return _parsed_text(text)


def _parsed_text(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError:
        known = _NOT_FINITE.sub(lambda m: m[0] if m[0][0] == '"' else "NaN", text)
        if known == text:
            raise
        return json.loads(known, object_pairs_hook=_without_duplicates)


def is_file(path: Location) -> bool:
    """Whether there is such a file; names that no file can have are no error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Location) -> bool:
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
