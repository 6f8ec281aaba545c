"""Writing files so that a reader never sees half of one, and naming them after scenes."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place when the block has succeeded.

    Folders are created. The suffix is kept, because libraries choose a file's format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_name(scene: str) -> str:
    """A scene's name as one part of a path; different scenes get different ones.

    >>> file_name("5aca87f95a9412c6")
    '5aca87f95a9412c6'
    >>> file_name("../a b")
    'a_b-3f08b2'
    """
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", scene).lstrip("._")[:100]
    clean = clean or "scene"
    return clean if clean == scene else f"{clean}-{sha1(scene.encode()).hexdigest()[:6]}"
