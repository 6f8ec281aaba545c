"""Asking storage again while it does not answer, and saying in a sentence when it stays away."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from mvsplat.data.faults import MISTAKES, StorageAway

_log = logging.getLogger("mvsplat.data")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_DENIED = (401, 403)
# Answers that a later request may get another one for, though they are called the asker's fault.
_PASSING = (408, 409, 425, 429)
_WITHOUT_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")
_dice = random.Random()  # of its own: the global one may have been seeded by a user

Result = TypeVar("Result")


def persistently(action: Callable[[], Result], what: str, patience: float) -> Result:
    """The result of asking storage for something, again and again while it does not answer.

    Args:
        action: Asks.
        what: What for, in messages: an address.
        patience: Seconds from the first failure on, after which to give up.

    Raises:
        FileNotFoundError: There is no such thing.
        StorageAway: It does not answer for so long, or refuses.
    """
    failed: float | None = None
    pause = _FIRST_PAUSE
    while True:
        try:
            return action()
        except (FileNotFoundError, StorageAway, *MISTAKES):
            raise
        except Exception as error:  # each driver has errors of its own
            if refusal := _refusal(error):
                raise StorageAway(f"{what}: {refusal} ({_reason(error)})") from error
            now = time.monotonic()
            if failed is None:
                failed = now
                if patience > 0:
                    words = "%s: storage does not answer (%s); asking again for up to %.0f s"
                    _log.warning(words, what, _reason(error), patience)
            if now + pause - failed > patience:
                raise StorageAway(
                    f"{what}: storage has not answered for {now - failed:.0f} s ({_reason(error)});"
                    " the same command goes on once it does"
                ) from error
        time.sleep(pause * _dice.uniform(0.5, 1))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _refusal(error: Exception) -> str | None:
    """Why asking again is of no use; None if it may be."""
    status = _status(error)
    if type(error).__name__ in _WITHOUT_CREDENTIALS:
        return "storage asks for credentials, and none were found"
    if isinstance(error, PermissionError) or status in _DENIED:
        return "storage denies access: are the credentials there, valid, and allowed to do this?"
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        return "storage refuses the request"
    return None


def _status(error: Exception) -> int | None:
    """The HTTP status that an error is about; drivers call it by different names."""
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int):
                return status
    return None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
