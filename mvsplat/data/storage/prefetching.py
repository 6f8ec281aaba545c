"""Files that are needed next, fetched into the cache while others are in use.

Each process that reads has its own threads for it; the locks of the cache see to it that no two
fetch the same file. What fails here is not told: whoever needs the file asks for it again.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice

from mvsplat.data.storage.addresses import Address, Location
from mvsplat.data.storage.cache import FileCache, entry_name
from mvsplat.data.storage.facts import FileFacts

_THREADS = 2
_AT_LEAST = 2.0  # seconds from one look ahead to the next
_PAUSE = 5.0  # seconds after a failure
_FARTHEST = 2000  # scenes, which take some milliseconds to look at


class Prefetcher:
    """Fetches what a reader says that it will need.

    Args:
        cache: Where to keep it.
        facts: What is known of each file; files that are not in it are not fetched ahead.
    """

    def __init__(self, cache: FileCache, facts: Mapping[Address, FileFacts]) -> None:
        self.cache = cache
        self.facts = facts
        self.process = os.getpid()  # threads do not come along when a process forks
        self.soon: frozenset[str] = frozenset()
        """The names in the cache of what is needed soon, which is to stay there."""
        self._wanted: list[Address] = []
        self._changed = threading.Condition()
        self._last_look = float("-inf")
        self._threads: list[threading.Thread] = []

    def expect(self, upcoming: Iterable[Location]) -> None:
        """Fetch what comes next, in order: as much as the cache holds.

        Args:
            upcoming: The file of each next scene; looked at from time to time only.
        """
        now = time.monotonic()
        if now - self._last_look < _AT_LEAST:
            return
        self._last_look = now
        wanted = self._next(upcoming)
        with self._changed:
            self.soon = frozenset(entry_name(a, self.facts[a]) for a in wanted)
            self._wanted = wanted
            self._changed.notify_all()
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._fetch_for_ever, daemon=True) for _ in range(_THREADS)
            ]
            for thread in self._threads:
                thread.start()

    def _next(self, upcoming: Iterable[Location]) -> list[Address]:
        """The next files that the cache holds together."""
        total = 0
        found: dict[Address, None] = {}
        for address in islice(upcoming, _FARTHEST):
            if not isinstance(address, Address) or address in found or address not in self.facts:
                continue
            total += self.facts[address].size or 0
            if total > self.cache.limit:
                break
            found[address] = None
        return list(found)

    def _fetch_for_ever(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                address = self._wanted.pop(0)
            try:
                self._fetch(address)
            except Exception:
                time.sleep(_PAUSE)

    def _fetch(self, address: Address) -> None:
        facts = self.facts[address]
        if (self.cache.place / entry_name(address, facts)).is_file():
            return
        once = Address(address.text, patience=0.0)
        with self.cache.holding(once, facts, self.soon, ahead=True):
            pass
