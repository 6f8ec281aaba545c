"""Faults of one scene, told apart from mistakes in a program: only these end a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image

DECODING_ERRORS = (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError)
"""What a damaged picture can raise."""


class UnsuitableScene(Exception):
    """A scene that cannot be used here; the message is the reason it is counted under."""


# What a scene's data raise, and what only a mistake in a program does.
_FAULTS = (ValueError, OSError, ArithmeticError, torch.linalg.LinAlgError)
_MISTAKES = (
    TypeError,
    AttributeError,
    NameError,
    AssertionError,
    ImportError,
    NotImplementedError,
    MemoryError,
)


@contextmanager
def faults_are(reason: str, reading: bool = False) -> Iterator[None]:
    """Turns a fault of one scene into an UnsuitableScene; mistakes of programs stay what they are.

    Args:
        reason: What the scene is counted under; the fault becomes the exception's cause.
        reading: Files are read here, whose damage comes out as errors of many kinds.
    """
    try:
        yield
    except UnsuitableScene:
        raise
    except _MISTAKES:
        raise
    except Exception as error:
        if not reading and not isinstance(error, _FAULTS):
            raise
        raise UnsuitableScene(reason) from error
