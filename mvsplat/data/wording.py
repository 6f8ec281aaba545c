"""Phrases that messages about data share."""

from collections.abc import Iterable, Sequence

MISSING = "pictures are missing"
"""What frames without a picture are counted under."""


def few(names: Sequence[str], count: int = 2, separator: str = ", ") -> str:
    """The first few names: ``aa, bb, ...``."""
    more = [] if len(names) <= count else ["..."]
    return separator.join([*names[:count], *more])


def frames(numbers: Iterable[int]) -> str:
    """``frame 3`` or ``frames 3, 7``."""
    distinct = [str(number) for number in dict.fromkeys(numbers)]
    return f"frame{'s' if len(distinct) > 1 else ''} {few(distinct, 5)}"
