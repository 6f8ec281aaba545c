"""Which file is meant by weights that are named."""

from pathlib import Path


def find_weights(weights: str | Path) -> Path:
    """The file that is meant.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    return path
