"""Where the pictures of a SOG scene are: in a folder or in an archive."""

import io
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path


class Pictures(ABC):
    """Files by name, and the path that messages name."""

    def __init__(self, path: Path):
        self.path = path

    @abstractmethod
    def content(self, name: str, longest: int) -> bytes:
        """A file's content.

        Raises:
            ValueError: There is no such file, or it is longer.
        """

    @abstractmethod
    def size(self) -> int:
        """Bytes of all that there is, roughly."""

    def damaged(self, what: str) -> ValueError:
        """An error that says what was found."""
        return ValueError(f"{self.path} is damaged: {what}")


class FolderOfPictures(Pictures):
    """Files beside a ``meta.json``; names that lead elsewhere are not followed."""

    def content(self, name: str, longest: int) -> bytes:
        plain = re.fullmatch(r"[\w.() -]+", name) and name not in (".", "..")
        path = self.path if name == "meta.json" else self.path.with_name(name) if plain else None
        if path is None or not path.is_file():
            raise self.damaged(f"it names the picture {name[:80]!r}, which is not beside it")
        if path.stat().st_size > longest:
            raise self.damaged(f"{name} has {path.stat().st_size} bytes")
        return path.read_bytes()

    def size(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.iterdir() if file.is_file())


class ZippedPictures(Pictures):
    """Files of an archive, of which nothing is unpacked to disk; a context manager.

    Args:
        path: The archive, or what messages name instead.
        content: The archive, if it is not a file of its own.

    Raises:
        ValueError: It is no zip file.
    """

    def __init__(self, path: Path, content: io.BytesIO | None = None):
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path if content is None else content)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path} is damaged, or no .sog file: {error}") from error

    def __enter__(self) -> "ZippedPictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def content(self, name: str, longest: int) -> bytes:
        try:
            with self._archive.open(name) as file:
                content = file.read(longest + 1)
        except KeyError:
            raise self.damaged(f"there is no {name[:80]!r} in it") from None
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error,
                OSError, ValueError) as error:  # fmt: skip
            raise self.damaged(f"{name[:80]!r} in it: {error}") from error
        if len(content) > longest:
            raise self.damaged(f"{name[:80]!r} in it has over {longest} bytes")
        return content

    def size(self) -> int:
        return self.path.stat().st_size
