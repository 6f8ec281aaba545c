"""One training run at a time in a run folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger("mvsplat.training")
LOCK = ".training.lock"
"""Name of a file in a run folder that says nothing: what counts is who holds it."""
_PATIENCE = 10.0
"""Seconds for which loader workers may outlive a run that was killed, and hold its lock."""


@contextmanager
def only_training_run(run: Path) -> Iterator[None]:
    """Keep other training runs out of a folder; the system lets go when this process is killed.

    Raises:
        RuntimeError: There is one already.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise RuntimeError(
            f"another run is being trained in {run}: wait until it ends, or give this one a folder "
            "of its own (--run_dir)"
        ) from None
    except (OSError, NotImplementedError) as error:
        _log.warning("%s cannot be locked (%s): start no second run in it", run, error)
    try:
        yield
    finally:
        lock.release()
