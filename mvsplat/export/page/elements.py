"""What a page holds in script elements that browsers do not run: bytes as base64, and JSON."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = '<meta name="generator" content="mvsplat scene">'
"""Stands among the first bytes of every page of a scene."""

_PIECE = 12 << 20
"""Bytes of an element: browsers read addresses of 32 MB at least, and base64 adds a third."""

_BYTES = '<script type="text/plain" class="{}">'
_JSON = '<script type="application/json" id="{}">'
_END = "</script>"


def is_page(path: Path) -> bool:
    """Whether a file is the page of a scene."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(512)
    except OSError:
        return False


def bytes_elements(kind: str, content: bytes | memoryview) -> Iterator[str]:
    """Bytes as one or several elements, one a line."""
    for start in range(0, len(content), _PIECE):
        text = base64.b64encode(content[start : start + _PIECE]).decode("ascii")
        yield f"{_BYTES.format(kind)}{text}{_END}\n"


def json_element(name: str, value: Any) -> str:
    """JSON in which nothing can end the element that it is in."""
    return f"{_JSON.format(name)}{json.dumps(value).replace('<', chr(92) + 'u003c')}{_END}\n"


def bytes_in(path: Path, kind: str) -> bytes:
    """The bytes in a page.

    Raises:
        ValueError: There are none.
    """
    pattern = re.escape(_BYTES.format(kind)).encode() + rb"([A-Za-z0-9+/=]*)" + _END.encode()
    try:
        pieces = [base64.b64decode(piece) for piece in re.findall(pattern, path.read_bytes())]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not any(pieces):
        raise ValueError(f"{path} is damaged, or no page of a scene: it holds no {kind}")
    return b"".join(pieces)


def json_in(path: Path, name: str) -> Any:
    """A JSON value in a page; None if there is none.

    Raises:
        ValueError: It is no JSON.
    """
    pattern = re.escape(_JSON.format(name)).encode() + rb"([^<]*)" + _END.encode()
    found = re.search(pattern, path.read_bytes())
    return None if found is None else json.loads(found[1])
