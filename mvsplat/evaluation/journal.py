"""Results of a test that has not ended: a line a scene, on disk as soon as the scene is scored.

Each process writes a file of its own beside ``scores.json``. A test that ends removes them; what a
killed one leaves behind is its results so far.
"""

import json
from pathlib import Path
from typing import IO

from mvsplat.evaluation.json_numbers import finite
from mvsplat.evaluation.scoring import Result

_PATTERN = "scores.unfinished-*.jsonl"


class Journal:
    """One process's results.

    Args:
        folder: Where the test's results go.
        rank: The process's number.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = folder / _PATTERN.replace("*", str(rank))
        self._file: IO[str] | None = None

    def add(self, result: Result) -> None:
        """Write a scene's result."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        self._file.write(json.dumps(finite(result), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Leave the file to whoever puts the results together."""
        if self._file is not None:
            self._file.close()
            self._file = None


def journals(folder: Path) -> list[Path]:
    """The files of a test that has not ended, in the order of its processes."""
    return sorted(folder.glob(_PATTERN), key=lambda path: (len(path.name), path.name))


def read_journals(folder: Path) -> list[list[dict]]:
    """Each process's results, as JSON has them."""
    return [_lines(path) for path in journals(folder)]


def remove_journals(folder: Path) -> None:
    """Forget an unfinished test."""
    for path in journals(folder):
        path.unlink(missing_ok=True)


def _lines(path: Path) -> list[dict]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # cut off: the process was killed while it wrote
            continue
    return found
