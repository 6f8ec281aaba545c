"""Which photographs structure from motion compares with which."""

import itertools

# Beyond so many photographs they are matched with their neighbours only.
EXHAUSTIVE = 60
_NEIGHBOURS = 10


def pairs_to_match(count: int) -> list[tuple[int, int]]:
    """All pairs; of many photographs each one's next ten, and ones 16, 32, 64 ... farther on."""
    if count <= EXHAUSTIVE:
        return list(itertools.combinations(range(count), 2))
    steps = [*range(1, _NEIGHBOURS + 1), *(2**k for k in range(4, count.bit_length()))]
    return [(i, i + step) for i in range(count) for step in steps if i + step < count]
