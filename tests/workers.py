"""Over how many processes the tests are spread."""

import os

import pytest

from mvsplat.machine import free_memory, usable_cores

FILES_A_WORKER = 4
"""So many files of tests take longer than another process needs to import what they do."""
MEMORY_A_WORKER = 6 * 2**30
"""Bytes that most of a process's tests leave with it, as the program keeps what it freed."""


def number_of_workers(config: pytest.Config) -> int | None:
    """One a core; none beside this process for a few files, or where output is shown as it comes.

    None leaves it to the environment variable that pytest-xdist reads.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    asked = {config.invocation_params.dir / name.partition("::")[0] for name in config.args}
    files = {
        file for path in asked for file in (path.rglob("test_*.py") if path.is_dir() else [path])
    }
    workers = min(usable_cores(), len(files) // FILES_A_WORKER)
    if (free := free_memory()) is not None:
        workers = min(workers, free // MEMORY_A_WORKER)
    return 0 if workers < 2 or config.option.capture == "no" else workers
