"""What an examination finds, and how an examination that stumbles is reported."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        subject: What was looked at.
        verdict: ``ok``; ``note``: worth knowing, though what must work does; ``problem``.
        text: What was found.
        advice: What to do about it, where there is something to do.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


def examine(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; if it raises, that is one more, and a problem."""
    try:
        yield from check()
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        yield Finding(
            subject,
            "problem",
            f"{type(error).__name__}: {first_line}",
            "this should not happen; please report it with the output of: mvsplat doctor --json",
        )
