"""What a conversion to object storage has done, told by what is there.

Beside train/ and test/ is ``.conversion/`` until everything is done: plan.json, and for each chunk
that is complete a small JSON with its checksum and the results of the scenes in it, written after
the chunk. So a conversion goes on by listing, on any machine; nothing is renamed or locked.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from mvsplat.data.chunks.conversion_workers import ConversionResult
from mvsplat.data.scene import Split
from mvsplat.data.storage.addresses import Address
from mvsplat.data.storage.facts import FileFacts

_FOLDER, _PLAN = ".conversion", "plan.json"


class PackedChunk(NamedTuple):
    """A complete chunk: its checksum, and the results of the jobs in it, by their number."""

    checksum: FileFacts
    results: Mapping[int, ConversionResult]


class StoredConversion:
    """The record of a conversion in object storage.

    Args:
        output: The folder that holds, or will hold, train/ and test/.
    """

    def __init__(self, output: Address) -> None:
        self.folder = output / _FOLDER
        self.chunks: dict[str, PackedChunk] = {}

    def plan(self) -> str | None:
        """The digest of the conversion that was interrupted; None if none was."""
        path = self.folder / _PLAN
        return json.loads(path.read_bytes()) if path.is_file() else None

    def begin(self, digest: str) -> None:
        """Say what is being converted."""
        (self.folder / _PLAN).write_text(json.dumps(digest))

    def read(self) -> None:
        """Find the chunks that are complete."""
        for name, content in self.folder.read_all().items():
            if name != _PLAN:
                self.chunks[name] = _parsed(content)

    def results(self) -> dict[int, ConversionResult]:
        """The results of the jobs in complete chunks."""
        return {
            number: of for chunk in self.chunks.values() for number, of in chunk.results.items()
        }

    def checksum(self, split: Split, chunk: str) -> FileFacts | None:
        """A chunk's checksum, if it is complete."""
        known = self.chunks.get(_record(split, chunk))
        return None if known is None else known.checksum

    def add(
        self,
        split: Split,
        chunk: str,
        checksum: FileFacts,
        results: Mapping[int, ConversionResult],
    ) -> None:
        """Note that a chunk is complete."""
        name = _record(split, chunk)
        content = {
            "bytes": checksum.size,
            "sha256": checksum.sha256,
            "scenes": {str(number): asdict(result) for number, result in results.items()},
        }
        (self.folder / name).write_text(json.dumps(content))
        self.chunks[name] = PackedChunk(checksum, results)

    def clear(self) -> None:
        """Everything is done: remove the record."""
        self.folder.remove_all()


def _record(split: Split, chunk: str) -> str:
    return f"{split}-{chunk.removesuffix('.torch')}.json"


def _parsed(content: bytes) -> PackedChunk:
    found = json.loads(content)
    results = {int(n): ConversionResult(**result) for n, result in found["scenes"].items()}
    return PackedChunk(FileFacts(found["bytes"], sha256=found["sha256"]), results)
