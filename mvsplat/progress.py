"""How far something is: a bar in a terminal, and a plain line now and then in a log file."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
Update = Callable[[int, int | None], None]
"""Takes how many are done, and of how many, if that is known."""


def in_terminal(stderr: bool = False) -> bool:
    """Whether bars can be drawn on standard output, or on standard error."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console.is_terminal or console.is_jupyter


class Pace:
    """When a log wants its next line: after a few seconds, then less and less often.

    Args:
        first: Seconds before the first line; each pause is twice the one before.
        longest: Seconds that the pauses grow to.
    """

    def __init__(self, first: float = 5.0, longest: float = 60.0):
        self._pause, self._longest = first, longest
        self.begin = time.monotonic()
        self._next = self.begin + first

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begin

    def is_due(self) -> bool:
        """Whether to write a line now; the next one is due a longer pause after it."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._pause = min(2 * self._pause, self._longest)
        self._next = now + self._pause
        return True


class Lines:
    """Writes how many of something are done, at the pace of a log.

    Args:
        description: What every line begins with.
        stderr: Write to standard error instead of standard output.
        seldom: Nothing at all about what is done before the first line is due.
    """

    def __init__(self, description: str, stderr: bool = False, seldom: bool = False):
        self.description = description
        self._stderr = stderr
        self._pace = Pace()
        self._is_silent = seldom
        self._done = 0
        if not seldom:
            self._write(f"{description} ...")

    def update(self, done: int, total: int | float | None = None) -> None:
        """So many are done, of so many; writes a line if one is due and something is left."""
        self._done = done
        if done == total or not self._pace.is_due():
            return
        self._is_silent = False
        text = f"{self.description}: {done}"
        if total is not None and math.isfinite(total):
            text += f" of {total:.0f}"
            if done > 1:  # the first one takes longer: something is compiled or opened
                text += f", {duration(time_left(self._pace.elapsed, done, total - done))} left"
        self._write(text)

    def end(self, result: str = "") -> None:
        """Write the last line: ``result``, or how many were done, and the time it took."""
        if not self._is_silent:
            result = result or f"{self._done} done"
            self._write(f"{self.description}: {result}, {duration(self._pace.elapsed)}")

    def _write(self, text: str) -> None:
        log_line(text, self._stderr)


def log_line(text: str, stderr: bool = False) -> None:
    """Write a line now, not when some buffer is full."""
    print(text, file=sys.stderr if stderr else sys.stdout, flush=True)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def time_left(elapsed: float, done: int, left: int | float) -> float:
    """Seconds for what is left, if it takes as long as what is done."""
    return elapsed / done * left


@contextmanager
def counting(description: str, total: int | None = None, stderr: bool = False) -> Iterator[Update]:
    """Shows the progress of a block, which tells it by calling what it gets.

    Args:
        description: What is being done.
        total: Of how many things, if that is known before.
        stderr: Show it on standard error instead of standard output.
    """
    if not in_terminal(stderr):
        lines = Lines(description, stderr)
        yield lines.update
        lines.end()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=stderr)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """The items, while the progress in drawing them is shown."""
    with counting(description, total) as update:
        for done, item in enumerate(items, 1):
            yield item
            update(done, total)


@runtime_checkable
class TracksItems(Protocol):
    """A progress bar that can show what takes long within a step."""

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """The items, while the progress in drawing them is shown."""


def tracker(trainer: Any, description: str) -> Callable[[Iterable[T], int], Iterator[T]] | None:
    """What shows the progress of items and their number, if the trainer's progress bar can."""
    bar = trainer.progress_bar_callback
    return partial(bar.track, description=description) if isinstance(bar, TracksItems) else None
