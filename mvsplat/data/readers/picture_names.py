"""Names of pictures as data writes them, and the forms in which two of them may differ.

A name from a file is never followed: it is taken apart, and its trailing components are compared
with names of files that are there.
"""

import posixpath
import re
import unicodedata
from enum import IntEnum
from functools import lru_cache
from urllib.parse import unquote

from mvsplat.data.picture_formats import NAMED_SUFFIXES, SUFFIXES

# What a name without a suffix stands for (Blender's scripts write such names).
UNSAID = (".png", ".jpg", ".jpeg")


class Form(IntEnum):
    """How closely names agree, the closest first."""

    EXACT = 0
    SPELLING = 1  # but for case, Unicode's normal form, percent signs, spaces around
    SUFFIX = 2  # and for the suffix
    NUMBER = 3  # and for zeros before numbers


@lru_cache(maxsize=1 << 17)
def in_form(name: str, form: Form) -> str:
    """What two names of a form have in common."""
    if form == Form.EXACT:
        return name
    plain = unicodedata.normalize("NFC", unquote(_readable_text(name))).casefold().strip()
    if form >= Form.SUFFIX:
        stem, suffix = posixpath.splitext(plain)
        plain = stem if suffix in NAMED_SUFFIXES else plain
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain) if form >= Form.NUMBER else plain


def is_readable(name: str) -> bool:
    """Whether a file of this name is a picture that can be read, by its suffix."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def components(name: str) -> tuple[str, ...]:
    """A name's folders and file, without what leads elsewhere: drives, roots, leading ``..``.

    Empty for what is no name of a file.
    """
    if "\0" in name:
        return ()
    plain = name.strip(" \t\r\n").replace("\\", "/")
    plain = re.sub("^file:/*", "/", plain, flags=re.IGNORECASE)
    plain = re.sub("^/*[A-Za-z]:/", "/", plain)
    # Spelled out, never followed: no link takes part in it.
    parts = [part for part in posixpath.normpath(plain).split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts = parts[1:]
    return tuple(parts)


def is_relative(name: str) -> bool:
    """Whether a name stays below the folder it is relative to, as it is written."""
    plain = name.strip().replace("\\", "/")
    if plain.startswith("/") or re.match("(file:|[A-Za-z]:/)", plain, re.IGNORECASE):
        return False
    return posixpath.normpath(plain).split("/")[0] != ".."


def means_the_same(wanted: str, found: str) -> bool:
    """Whether two names differ in nothing a user would call a difference."""
    one, other = (unicodedata.normalize("NFC", _readable_text(name)) for name in (wanted, found))
    return one == other or any(one + suffix == other for suffix in UNSAID)


def decode_name(data: bytes) -> str:
    """A name's text: UTF-8 or, as older programs on Windows write, Windows-1252."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _readable_text(name: str) -> str:
    """A file's name with the letters that its bytes mean where they are no UTF-8."""
    return name if name.isprintable() else decode_name(name.encode("utf-8", "surrogateescape"))
