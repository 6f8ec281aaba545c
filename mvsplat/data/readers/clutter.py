"""Files and folders that systems and people leave beside data, and that are no data."""

from collections.abc import Iterator
from pathlib import Path

from mvsplat.data.readers.untrusted import is_folder

_NAMES = frozenset("thumbs.db ehthumbs.db desktop.ini __macosx @eadir $recycle.bin".split())


def is_clutter(name: str) -> bool:
    """Whether a name is hidden (``.DS_Store``, ``._copy.jpg``) or a system's own."""
    return name.startswith(".") or name.lower() in _NAMES


def entries(folder: Path) -> list[Path]:
    """What is in a folder, without clutter, by name; of what is no folder, nothing.

    Folders that may not be read count as empty.
    """
    if not is_folder(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if not is_clutter(path.name))
    except PermissionError:
        return []


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders in a folder, then those in them, and so on, ``depth`` levels in all."""
    level = [folder]
    for _ in range(depth):
        level = [child for parent in level for child in entries(parent) if is_folder(child)]
        yield from level
