"""PLY files as tables of their elements, whatever these hold."""

import io
from pathlib import Path
from typing import Any

from mvsplat.export.foreign_splats import foreign_format


def read_elements(path: Path) -> Any:
    """The elements of a PLY file by name; their rows stay on disk until they are used.

    Raises:
        OSError, ValueError: There are none.
    """
    from plyfile import PlyParseError

    if not path.is_file():
        raise FileNotFoundError(f"no PLY file at {path}")
    try:
        elements = _parsed(path)
    except (PlyParseError, ValueError, MemoryError, OverflowError) as error:
        if foreign := foreign_format(path, ".ply"):
            raise ValueError(f"{path} is {foreign}") from error
        raise ValueError(f"{path} is damaged, or no PLY file: {error}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from error
    if "vertex" not in elements:
        raise ValueError(f"{path} holds no Gaussians: it has no element named vertex")
    return elements


def _parsed(path: Path) -> Any:
    from plyfile import PlyData

    try:
        return PlyData.read(str(path))
    except UnicodeDecodeError:  # in a comment, as a rule: a name with an accent
        header, end, body = path.read_bytes().partition(b"end_header")
        if not end:
            raise
        plain = bytes(byte if byte < 128 else ord("?") for byte in header)
        return PlyData.read(io.BytesIO(plain + end + body))
