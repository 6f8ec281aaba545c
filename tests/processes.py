"""Which processes are still there, for tests that kill some."""

import time
from pathlib import Path


def running(pids=(), group: int | None = None) -> list[int]:
    """Those of the processes, and of a process group, that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        pid = int(stat.parent.name)
        if state not in "ZX" and (pid in pids or int(its_group) == group):
            found.append(pid)
    return found


def assert_all_end(pids=(), group: int | None = None, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while left := running(pids, group):
        assert time.monotonic() < end, f"processes {left} outlive their parent"
        time.sleep(0.1)
