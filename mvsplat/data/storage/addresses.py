"""Addresses of object storage, which are used like paths as far as chunks need it.

Whatever fsspec has a driver for: ``s3://bucket/re10k``, ``gs://``, ``hf://datasets/me/re10k``,
``https://``, ``memory://`` ... Settings of a driver are fsspec's own: its configuration files, or
environment variables (``FSSPEC_S3_ENDPOINT_URL``, ``FSSPEC_S3_ANON`` ...).

Nothing is renamed or locked there: what is written appears whole or not.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.request import url2pathname

from mvsplat.data.storage.drivers import driver, time_limit
from mvsplat.data.storage.facts import FileFacts, facts_of
from mvsplat.data.storage.patience import persistently
from mvsplat.files import replacing

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # one letter would be a drive of Windows
_LOCAL = ("file", "local")
_WEB = ("http", "https")  # whose servers list no folders, and take no files
Result = TypeVar("Result")


class NotInStorage(FileNotFoundError):
    """Storage says that there is no such file or folder."""


@dataclass(frozen=True, order=True)
class Address:
    """A file or folder in object storage.

    Methods raise StorageAway where storage does not answer, or refuses, and NotInStorage (which is
    a FileNotFoundError) where there is no such file or folder.

    Args:
        text: The address.
        patience: Seconds for which storage that does not answer is asked again.
    """

    text: str
    patience: float = field(default=300.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.rstrip("/"))

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.text}/{name}", self.patience)

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    @property
    def parent(self) -> "Address":
        return Address(self.text.rpartition("/")[0], self.patience)

    @property
    def is_web(self) -> bool:
        """Whether it is a web server's, which lists no folders."""
        return self._protocol in _WEB

    def is_file(self) -> bool:
        try:
            return self._info()["type"] == "file"
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there are files in it, or below; where nothing is listed: an index.json."""
        try:
            found = self._listed()
        except FileNotFoundError:
            return False
        if found is None:
            return (self / "index.json").is_file()
        return [entry["name"].rstrip("/") for entry in found] != [self._path()]

    def files(self) -> dict[str, FileFacts]:
        """The files in a folder, by name; none where nothing is listed."""
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: facts_of(entry)
            for entry in self._listed() or []
            if entry["type"] == "file"
        }

    def facts(self) -> FileFacts:
        """What storage tells of a file."""
        return facts_of(self._info())

    def stat(self) -> Any:
        """As much of :meth:`pathlib.Path.stat` as storage tells."""
        return SimpleNamespace(st_size=self.facts().size or 0)

    def read_bytes(self) -> bytes:
        return self._ask(lambda files, path, limit: files.cat_file(path, **limit))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def read_range(self, begin: int, end: int, size: int) -> bytes:
        """Bytes of a file of a known size; all from ``begin`` on, if storage sends no parts."""

        def ask(files: Any, path: str, limit: dict) -> bytes:
            data = files.cat_file(path, start=begin, end=end, **limit)
            if len(data) == size and end - begin != size:
                return data[begin:]
            if len(data) != end - begin:
                raise ConnectionError(f"{len(data):,} bytes came of {end - begin:,} asked for")
            return data

        return self._ask(ask)

    def read_all(self) -> dict[str, bytes]:
        """The contents of a folder's files, by name; {} if there is no such folder."""
        try:
            names = list(self.files())
        except NotInStorage:
            return {}

        def ask(files: Any, path: str, _: dict) -> dict[str, bytes]:
            found = files.cat([f"{path}/{name}" for name in names])
            return {place.rpartition("/")[2]: content for place, content in found.items()}

        return self._ask(ask) if names else {}

    def remove_all(self) -> None:
        """Remove a folder's files, if there are any."""
        try:
            self._ask(lambda files, path, _: files.rm(path, recursive=True))
        except NotInStorage:
            pass

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Write a file, which is there when it is complete.

        Raises:
            ValueError: Nothing can be written there.
        """
        content = bytes(data)

        def ask(files: Any, path: str, _: dict) -> None:
            if self.is_web:
                raise NotImplementedError
            files.pipe_file(path, content)
            files.invalidate_cache()
            written = files.info(path).get("size")
            if written not in (None, len(content)):
                raise ConnectionError(f"{written:,} bytes are there of {len(content):,} sent")

        try:
            self._ask(ask)
        except NotImplementedError:
            raise ValueError(
                f"nothing can be written to {self}: {self._protocol}:// is for reading alone"
            ) from None
        except FileNotFoundError as error:
            raise ValueError(f"{self} cannot be written: {error}") from error

    def write_text(self, text: str, encoding: str = "utf-8", errors: str = "strict") -> None:
        self.write_bytes(text.encode(encoding, errors))

    @property
    def _protocol(self) -> str:
        return self.text.partition("://")[0].lower()

    def _path(self) -> str:
        return driver(self.text)[1]

    def _info(self) -> dict[str, Any]:
        def ask(files: Any, path: str, limit: dict) -> dict[str, Any]:
            files.invalidate_cache()
            try:
                return files.info(path, **limit)
            except FileNotFoundError as error:
                # fsspec's driver for the web calls everything so.
                if isinstance(error.__cause__, Exception) and self.is_web:
                    if getattr(error.__cause__, "status", None) != 404:
                        raise error.__cause__ from None
                raise

        return self._ask(ask)

    def _listed(self) -> list[dict[str, Any]] | None:
        """What is in a folder; None where reading may be allowed, but nothing is listed."""
        if self.is_web:
            return None

        def ask(files: Any, path: str, _: dict) -> list[dict[str, Any]] | None:
            files.invalidate_cache()
            try:
                return files.ls(path, detail=True)
            except PermissionError:
                return None

        return self._ask(ask)

    def _ask(self, action: Callable[[Any, str, dict[str, Any]], Result]) -> Result:
        """What storage answers; ``action`` gets its driver, the path there and a time limit."""
        files, path = driver(self.text)

        def ask() -> Result:
            return action(files, path, time_limit(files))

        try:
            return persistently(ask, self.text, self.patience)
        except FileNotFoundError as error:
            said = "" if self.text.endswith(str(error)) else f" ({error})"
            raise NotInStorage(f"there is no {self}{said}") from error


Location = Path | Address
"""Where a file or folder is: on this machine, or in object storage."""


def location(text: str | os.PathLike | Address, patience: float | None = None) -> Location:
    """A path or an address, by what a user has written.

    >>> str(location("s3://bucket/re10k/"))
    's3://bucket/re10k'
    >>> location("file:///data/re10k").name
    're10k'
    """
    if isinstance(text, Address):
        return text if patience is None else Address(text.text, patience)
    text = os.fspath(text)
    found = _ADDRESS.match(text)
    if found is None:
        return Path(text)
    if found[1].lower() in _LOCAL:
        return Path(url2pathname(text[found.end() :]))
    return Address(text) if patience is None else Address(text, patience)


def write_whole(place: Location, data: bytes | memoryview) -> None:
    """Write a file, which is there when it is complete.

    Raises:
        OSError: It cannot be written: the disk is full, say.
        StorageAway: Storage does not answer, or refuses.
        ValueError: Nothing can be written to such an address.
    """
    if isinstance(place, Address):
        place.write_bytes(data)
    else:
        with replacing(place) as temporary:
            temporary.write_bytes(data)
