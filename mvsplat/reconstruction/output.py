"""The folder of results: what may be in it beforehand, and how it says that it is not complete.

Every file is written under another name and renamed, so none is ever half there. Before the first
one, ``INCOMPLETE.txt`` is put beside them, which goes when the last one is written: whatever ends
the program, a folder with that file in it is not the whole result.
"""

import shutil
from pathlib import Path

from mvsplat.data.readers import masks
from mvsplat.export.splat_registry import is_named_like_a_splat, writing
from mvsplat.files import replacing

SPLAT, CAMERAS, VIDEO, REPORT = "scene.ply", "cameras.json", "video.mp4", "report.html"
SCORES = "scores.json"
DEPTH, PHOTOS, MASKS, COLMAP = "depth", "photos", masks.FOLDER, "colmap"
MARKER = "INCOMPLETE.txt"
_FILES = (CAMERAS, VIDEO, REPORT, SCORES)
_FOLDERS = (DEPTH, PHOTOS, MASKS, COLMAP)
_IGNORED = frozenset([".DS_Store", "Thumbs.db", "desktop.ini"])


class OutputFolder:
    """A folder that one reconstruction is written to.

    Args:
        path: The folder; it is created when the first file is due.
        overwrite: Whether an earlier reconstruction in it may be replaced.
        splat: The suffix of its splat, with or without the dot.

    Attributes:
        splat: The splat's file name in the folder.

    Raises:
        ValueError: There is something in it that must not be lost, or the splat's format is not
            one for a folder.
        OSError: It cannot be written to.
    """

    def __init__(
        self, path: str | Path, overwrite: bool = False, splat: str = Path(SPLAT).suffix
    ) -> None:
        self.path = Path(path)
        self.splat = f"{Path(SPLAT).stem}.{splat.lstrip('.')}"
        if writing(self.splat).format.takes("cameras"):
            raise ValueError(
                f"{self.splat} holds cameras and photos itself: name it as the output, in place "
                "of a folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--output {self.path} is a file; expected a folder")
        there = self._content()
        if there and not overwrite:
            raise ValueError(
                f"--output {self.path} has something in it already ({_listed(there)}); choose "
                "another folder, or --overwrite an earlier reconstruction"
            )
        whole = {CAMERAS, REPORT} <= set(there) and any(map(_is_ours, there))
        if there and MARKER not in there and not whole:
            raise ValueError(
                f"--output {self.path} holds no earlier reconstruction but {_listed(there)}: "
                "--overwrite would mix the results with other files; choose another folder"
            )
        self._was_complete = MARKER not in there
        self._created: list[Path] = []
        self._is_begun = self._has_only_ours = False
        check_writable(self.path)

    def begin(self) -> None:
        """Mark the folder as incomplete; from here on an earlier result is not whole any more."""
        if self._is_begun:
            return
        self._is_begun = True
        self._created = _create(self.path)
        with replacing(self.path / MARKER) as temporary:
            temporary.write_text(
                "mvsplat has not finished writing this folder: each file in it is "
                "complete, but others are missing or of an earlier reconstruction.\n",
                encoding="utf-8",
            )

    def remove_earlier(self) -> None:
        """Remove what an earlier reconstruction wrote, but for its splat, which is replaced."""
        if self._has_only_ours:
            return
        self._has_only_ours, self._was_complete = True, False
        splats = [name for name in filter(_is_ours, self._content()) if name != self.splat]
        for name in (*_FILES, *splats):
            (self.path / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)

    def finish(self) -> None:
        """All is written."""
        (self.path / MARKER).unlink(missing_ok=True)

    def give_up(self) -> None:
        """Nothing could be written: leave what was there before as it was."""
        if self._was_complete:
            (self.path / MARKER).unlink(missing_ok=True)
        _remove_empty(self._created)

    def _content(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.name not in _IGNORED)


def _is_ours(name: str) -> bool:
    """Whether a file is named as a reconstruction's splat is."""
    return name.partition(".")[0] == Path(SPLAT).stem and is_named_like_a_splat(name)


def check_writable(path: Path) -> None:
    """Find out now, not after minutes, whether files can be written to a folder.

    Raises:
        OSError: They cannot.
    """
    try:
        created = _create(path)
        probe = path / ".mvsplat-probe"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise OSError(f"--output {path} cannot be written to: {error}") from error
    _remove_empty(created)


def _create(path: Path) -> list[Path]:
    """Create a folder; returns those that were not there, the innermost first."""
    created = []
    for folder in (path, *path.parents):
        if folder.exists():
            break
        created.append(folder)
    path.mkdir(parents=True, exist_ok=True)
    return created


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
