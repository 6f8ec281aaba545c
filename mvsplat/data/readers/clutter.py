"""Files and folders that systems and people leave beside data, and that are no data."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_NAMES = frozenset("thumbs.db ehthumbs.db desktop.ini __macosx @eadir $recycle.bin".split())


def is_clutter(name: str) -> bool:
    """Whether a name is hidden (``.DS_Store``, ``._copy.jpg``) or a system's own."""
    return name.startswith(".") or name.lower() in _NAMES


def entries(folder: Path) -> list[Path]:
    """What is in a folder, without clutter, by name; of what is no folder, nothing.

    Folders that may not be read count as empty.
    """
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not is_clutter(name)]
    except (OSError, ValueError):
        return []


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without clutter, by name; quick, however many files there are."""
    try:
        with os.scandir(folder) as found:
            names = sorted(e.name for e in found if e.is_dir() and not is_clutter(e.name))
        return [folder / name for name in names]
    except (OSError, ValueError):
        return []


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders in a folder, then those in them, and so on, ``depth`` levels in all."""
    waiting = deque([(folder, depth)])  # one folder at a time: whoever asks may stop early
    while waiting:
        parent, levels = waiting.popleft()
        for child in subfolders(parent):
            yield child
            if levels > 1:
                waiting.append((child, levels - 1))
