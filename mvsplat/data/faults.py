"""Faults of one scene, told apart from mistakes in a program: only these end a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image

DECODING_ERRORS = (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError)
"""What a damaged picture can raise."""


class UnsuitableScene(Exception):
    """A scene that cannot be used here; the message is the reason it is counted under."""


class StorageAway(RuntimeError):
    """Storage does not answer or refuses, or there is no room to keep what it sends.

    It is no scene's fault: scenes that are skipped for it would change what a run trains on.
    """


# What a scene's data raise.
_FAULTS = (ValueError, OSError, ArithmeticError, torch.linalg.LinAlgError)
MISTAKES = (
    TypeError,
    AttributeError,
    NameError,
    AssertionError,
    ImportError,
    NotImplementedError,
    MemoryError,
)
"""What only a mistake in a program raises, or a machine that is too small."""


@contextmanager
def faults_are(reason: str, reading: bool = False) -> Iterator[None]:
    """Turns a fault of one scene into an UnsuitableScene; mistakes of programs stay what they are.

    Args:
        reason: What the scene is counted under; the fault becomes the exception's cause.
        reading: Files are read here, whose damage comes out as errors of many kinds.
    """
    try:
        yield
    except (UnsuitableScene, StorageAway, *MISTAKES):
        raise
    except Exception as error:
        if not reading and not isinstance(error, _FAULTS):
            raise
        raise UnsuitableScene(reason) from error
