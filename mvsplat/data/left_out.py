"""What of some data is left out because it cannot be used, and why: told in the same words
everywhere."""

from collections.abc import Mapping, Sequence

# What frames without a picture are counted under.
MISSING = "pictures are missing"

_LONGEST = 200


class LeftOut(dict[str, list[str]]):
    """Names of what cannot be used, by the reason why; a reason names file and line or value."""

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str]] | None) -> "LeftOut":
        """A copy, to add to."""
        return cls((reason, list(names)) for reason, names in (given or {}).items())

    def add(self, reason: str, *names: str) -> None:
        """Leave out one more, or some."""
        self.setdefault(reason, []).extend(names)

    def update_from(self, other: Mapping[str, Sequence[str]]) -> None:
        """Add what another part of the data leaves out."""
        for reason, names in other.items():
            self.add(reason, *names)


def describe_left_out(left_out: Mapping[str, Sequence[str]], shown: int = 3) -> str:
    """One line: how many are left out for which reason, with some of their names.

    Args:
        left_out: Reasons to names.
        shown: How many reasons and how many names of each to show.
    """
    reasons = sorted(left_out.items(), key=lambda item: -len(item[1]))
    parts = [_one(reason, names, shown) for reason, names in reasons[: 2 * shown]]
    more = sum(len(names) for _, names in reasons[2 * shown :])
    return "; ".join([*parts, *([f"{more} more for other reasons"] if more else [])])


def _one(reason: str, names: Sequence[str], shown: int) -> str:
    listed = ", ".join(_short(name) for name in names[:shown])
    if len(names) > shown:
        listed += ", ..."
    if reason.startswith("pictures "):
        return f"{len(names)} {reason}: {listed}"
    return f"{listed}: {reason}" if len(names) == 1 else f"{len(names)} ({listed}): {reason}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
