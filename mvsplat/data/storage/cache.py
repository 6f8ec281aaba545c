"""A folder on this machine in which files from object storage are kept, up to a size.

All processes of a machine share it. A file is written beside its place (``.NAME.SIZE.part``) and
renamed when it is complete and checked; whoever has the lock of an entry (``.NAME.lock``) may go on
with the part that a killed process has left. The file's time is that of its last use: the least
recently used go first. A file that is removed stays readable for those who have it open.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from mvsplat.data.faults import StorageAway
from mvsplat.data.storage.addresses import Address, NotInStorage
from mvsplat.data.storage.facts import FileFacts
from mvsplat.files import file_name

_GIGABYTE = 10**9
_BLOCK = 8 << 20  # bytes a request
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedInStorage(ValueError):
    """Storage sends the same wrong bytes again and again: what is there is damaged."""


@dataclass(frozen=True)
class FileCache:
    """How files from object storage (s3://, gs://, hf://, https:// ...) are kept on this machine.

    Args:
        gigabytes: Size of what is kept, the least recently used goes first. At least the file that
            is being read is; files that are open take up space until they are closed.
        folder: Where, on a disk of this machine; all its processes may share it. null: chunks in
            the folder that the variable MVSPLAT_CACHE names, or ~/.cache/mvsplat/chunks.
        patience: Seconds for which storage that does not answer is asked again, before the run
            ends.
    """

    gigabytes: float = 50.0
    folder: str | None = None
    patience: float = 300.0

    def __post_init__(self) -> None:
        for name in ("gigabytes", "patience"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"the cache's {name} is {getattr(self, name)}; expected >= 0")

    @property
    def place(self) -> Path:
        """The folder."""
        if self.folder is not None:
            return Path(self.folder).expanduser()
        own = os.environ.get("MVSPLAT_CACHE")
        return Path(own).expanduser() / "chunks" if own else Path.home() / ".cache/mvsplat/chunks"

    @property
    def limit(self) -> int:
        """Its size in bytes."""
        return round(self.gigabytes * _GIGABYTE)

    @contextmanager
    def holding(
        self,
        address: Address,
        facts: FileFacts | None = None,
        keep: Collection[str] = (),
        ahead: bool = False,
    ) -> Iterator[Path | None]:
        """A file's copy, which stays where it is inside of the block.

        Args:
            address: The file.
            facts: What storage tells of it; asked for, if None.
            keep: Names of entries that should rather stay here than others.
            ahead: Whether it is not needed yet: then None comes where another process is at it, or
                where it would drive out what is to be kept.

        Raises:
            FileNotFoundError: There is no such file.
            DamagedInStorage: Its content is not what its hash says.
            StorageAway: Storage does not answer, or refuses, or there is no room here.
        """
        facts = address.facts() if facts is None else facts
        name = entry_name(address, facts)
        path = self.place / name
        with self._locked(name, wait=not ahead) as mine:
            if not mine:
                yield None
                return
            if not _is_whole(path, facts):
                if not self._make_room(facts.size or 0, {name}, keep, at_all_costs=not ahead):
                    yield None
                    return
                self._fetch(address, facts, path, keep)
            touch(path)
            yield path

    def forget(self, address: Address, facts: FileFacts) -> None:
        """Remove a copy that turns out to be of no use."""
        (self.place / entry_name(address, facts)).unlink(missing_ok=True)

    def _fetch(self, address: Address, facts: FileFacts, path: Path, keep: Collection[str]) -> None:
        """Bring a file here, whose entry this process has locked."""
        part = path.with_name(f".{path.name}.{facts.size or 0}.part")
        try:
            try:
                _download(address, facts, part)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._make_room(self.limit, {path.name}, keep, at_all_costs=True)
                _download(address, facts, part)
            part.replace(path)
        except NotInStorage:
            raise
        except OSError as error:
            raise self._cannot_keep(address, facts, error) from error

    def _cannot_keep(self, address: Address, facts: FileFacts, error: OSError) -> StorageAway:
        size = "" if facts.size is None else f" ({facts.size / 1e6:.0f} MB)"
        return StorageAway(
            f"no place for {address}{size} in the cache {self.place} "
            f"({error.strerror or error}): make room, or name another folder (data.cache.folder)"
        )

    @contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[bool]:
        """Whether this process has the lock of an entry."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.place / f".{name}.lock")
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise StorageAway(
                f"the cache {self.place} cannot be used ({error.strerror or error}): name another "
                "folder (data.cache.folder)"
            ) from error
        try:
            yield True
        finally:
            lock.release()

    def _make_room(
        self, size: int, mine: set[str], keep: Collection[str], at_all_costs: bool
    ) -> bool:
        """Remove the least recently used files until ``size`` more bytes fit; whether they do."""
        kept = [entry for entry in self._entries() if entry.name not in mine]
        total = sum(entry.size for entry in kept)
        free = shutil.disk_usage(self.place).free
        excess = max(total + size - self.limit, size - free)
        for entry in sorted(kept, key=lambda entry: (entry.name in keep, entry.used)):
            if excess <= 0 or (entry.name in keep and not at_all_costs):
                break
            if self._remove(entry):
                excess -= entry.size
        return excess <= 0 or at_all_costs

    def _remove(self, entry: "_Entry") -> bool:
        """Remove an entry, unless another process is at it; whether it is gone."""
        with self._locked(entry.name, wait=False) as mine:
            if not mine:
                return False
            try:
                entry.path.unlink(missing_ok=True)
            except OSError:  # on some systems, files that are open cannot be removed
                return False
            return True

    def _entries(self) -> "list[_Entry]":
        """What is kept, whole or in part."""
        found = []
        for file in os.scandir(self.place):
            part = file.name.endswith(".part")
            if file.name.startswith(".") and not part:
                continue
            try:
                status = file.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            name, size = file.name, status.st_size
            if part:
                name, whole = file.name[1:].removesuffix(".part").rsplit(".", 1)
                size = max(size, int(whole) if whole.isdecimal() else 0)
            found.append(_Entry(name, Path(file.path), size, status.st_mtime))
        return found


class _Entry(NamedTuple):
    """A file in the cache, or a part of one; its size is that of the whole."""

    name: str
    path: Path
    size: int
    used: float


def entry_name(address: Address, facts: FileFacts) -> str:
    """What a version of a file is called in the cache."""
    identity = "\n".join([str(address), str(facts.size), facts.sha256 or facts.version])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}-{file_name(address.name)}"


def touch(path: Path) -> None:
    """Note that a file has just been used; one that is gone needs no note."""
    try:
        os.utime(path)
    except OSError:
        pass


def _is_whole(path: Path, facts: FileFacts) -> bool:
    # After a loss of power, files can be there without their content.
    return path.is_file() and facts.size in (None, path.stat().st_size)


# Folders in storage whose ETags look like MD5s, but are none: those of encrypted files, say.
_without_md5: set[Address] = set()


def _download(address: Address, facts: FileFacts, part: Path) -> None:
    """Complete a part and check it; what turns out to be damaged on the way is fetched again."""
    seen: set[str] = set()
    until = time.monotonic() + address.patience
    while True:
        _complete(address, facts, part)
        wrong = _wrong_hash(part, facts, address.parent not in _without_md5)
        if wrong or not facts.has_hash:
            _check_unchanged(address, facts)
        if not wrong:
            return
        if wrong in seen:  # what came is what is there
            if facts.sha256 or facts.md5_is_sure:
                part.unlink()
                raise DamagedInStorage(
                    f"{address} is damaged: its hash is {wrong[:16]}..., expected "
                    f"{(facts.sha256 or facts.md5)[:16]}..."
                )
            _without_md5.add(address.parent)
            return
        seen.add(wrong)
        part.unlink()
        if len(seen) > 1 and time.monotonic() > until:
            raise StorageAway(
                f"{address} has come {len(seen)} times, damaged in another way each time: is the "
                "network sound?"
            )


def _check_unchanged(address: Address, facts: FileFacts) -> None:
    if facts.version and address.facts().version != facts.version:
        raise StorageAway(
            f"{address} has been changed since the run has begun; the same command goes on with "
            "what is there now"
        )


def _complete(address: Address, facts: FileFacts, part: Path) -> None:
    """Fetch what a part lacks."""
    if facts.size is None:
        part.write_bytes(address.read_bytes())
        return
    with part.open("ab") as file:
        begin = file.tell()
        if begin > facts.size:
            file.truncate(0)
            begin = 0
        while begin < facts.size:
            end = min(begin + _BLOCK, facts.size)
            data = address.read_range(begin, end, facts.size)
            file.write(data)
            file.flush()
            begin += len(data)


def _wrong_hash(part: Path, facts: FileFacts, guesses: bool) -> str:
    """The hash of a file, if it is not what it should be (``guesses``: or may be); else nothing."""
    expected = facts.sha256 or (facts.md5 if guesses or facts.md5_is_sure else "")
    if not expected:
        return ""
    digest = hashlib.sha256() if facts.sha256 else hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    return "" if found == expected else found
