"""The stages of the work: shown while they last, and their times."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mvsplat.export.cameras import Cameras
from mvsplat.progress import Pace, log_line
from mvsplat.types import Gaussians

if TYPE_CHECKING:
    from rich.progress import Progress

Preview = Callable[[Callable[[], Gaussians], Cameras], None]
"""Takes what makes a copy of an unfinished scene, which it need not call, and the cameras."""


class Stages:
    """Measures stages; shows nothing. One follows the other, and a nested one interrupts.

    Attributes:
        seconds: How long each took, by its title, in the order in which they began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._title: str | None = None
        self._since = 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """The block is a stage; :meth:`update` inside begins another."""
        self.update(title, 0, 0)
        try:
            yield
        finally:
            self.end()

    def update(self, title: str, done: int, total: int, detail: str = "") -> None:
        """Say how far which stage is.

        Args:
            title: The stage.
            done: How much is done.
            total: Of how much; 0 is unknown.
            detail: What else there is to say, in a few words.
        """
        if title != self._title:
            self.end()
            self._title, self._since = title, time.perf_counter()
            self.seconds.setdefault(title, 0.0)
            self.begun(title)
        self.advanced(title, done, total, detail)

    def end(self) -> None:
        """The current stage is over."""
        if self._title is not None:
            self.seconds[self._title] += time.perf_counter() - self._since
            self.ended(self._title)
            self._title = None

    def preview(self, scene: Callable[[], Gaussians], cameras: Cameras) -> None:
        """Say what the scene is by now, between two steps of its refinement."""

    def begun(self, title: str) -> None:
        """Show it."""

    def advanced(self, title: str, done: int, total: int, detail: str) -> None:
        """Show it."""

    def ended(self, title: str) -> None:
        """Show it."""


class ShownStages(Stages):
    """Stages as progress bars on a terminal, or as lines now and then in a log; on standard error.

    Use it as a context manager.

    Args:
        preview: Who shows unfinished scenes.
    """

    def __init__(self, preview: Preview | None = None) -> None:
        super().__init__()
        self._preview = preview
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._pace = Pace()

    def __enter__(self) -> "ShownStages":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description:<20}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}"),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if self._bars is not None:
            self._bars.stop()

    def preview(self, scene: Callable[[], Gaussians], cameras: Cameras) -> None:
        if self._preview is not None:
            self._preview(scene, cameras)

    def begun(self, title: str) -> None:
        if self._bars is None:
            log_line(f"{title} ...", stderr=True)
            self._pace = Pace()
        elif title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=None, detail="")

    def advanced(self, title: str, done: int, total: int, detail: str) -> None:
        if self._bars is not None:
            task = self._tasks[title]
            self._bars.update(task, completed=done, total=total or None, detail=detail)
        elif 0 < done < total and self._pace.is_due():
            log_line(f"{title}: {done} of {total}{detail and ', ' + detail}", stderr=True)

    def ended(self, title: str) -> None:
        if self._bars is not None:
            task = self._bars.tasks[self._tasks[title]]
            total = task.total or 1
            self._bars.update(task.id, completed=total, total=total)
            self._bars.stop_task(task.id)
