"""Which state of its files a page shows, and whether there is a newer one."""

from pathlib import Path
from typing import NamedTuple

from mvsplat.export.cameras import cameras_of
from mvsplat.viewer.library import Item

_Stamp = tuple[int, int, int]


class Version(NamedTuple):
    """What tells a state of a splat and its cameras from another; None is no file."""

    splat: _Stamp | None
    cameras_file: Path | None
    cameras: _Stamp | None


def version_of(item: Item) -> Version:
    """The state of an item's files now."""
    cameras = cameras_of(item.ply)
    return Version(_stamp(item.ply), cameras, None if cameras is None else _stamp(cameras))


class Follower:
    """Notices that an item's files are others than those shown.

    Files that are written in place change from look to look: only what has stayed the same since
    the last look is worth reading, and what could not be read is not until it changes again.

    Args:
        item: What is shown.
        version: The state in which it is.
    """

    def __init__(self, item: Item, version: Version):
        self._item = item
        self.version = self._seen = version

    def look(self) -> Version | None:
        """A state to read that is new, and taken as the present one from here on."""
        now, before = version_of(self._item), self._seen
        self._seen = now
        if now == self.version or now != before:
            return None
        self.version = now
        return now


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
