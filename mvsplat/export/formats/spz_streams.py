"""Compressed content of splat files, unpacked no farther than one can believe a file."""

import struct
import zlib
from pathlib import Path

_HIGHEST_RATIO, _ALWAYS = 100, 64 << 20
"""Content may be so many times as large as its file; small content, whatever the file's size. Real
scenes are 1.5 to 10 times as large."""
_STREAM = struct.Struct("<QQ")


def believable(size: int, file_size: int, path: Path) -> None:
    """Refuse content that would be out of proportion to its file.

    Raises:
        ValueError: It would be.
    """
    if size > max(_ALWAYS, _HIGHEST_RATIO * file_size):
        raise ValueError(
            f"{path} is damaged: it would hold {size:,} bytes, in a file of {file_size:,}"
        )


def gzip_content(data: bytes, size: int, path: Path) -> bytes:
    """The first bytes of a gzip file's content.

    Raises:
        ValueError: The file is damaged, or has fewer.
    """
    believable(size, len(data), path)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(data, size)
    except zlib.error as error:
        raise ValueError(f"{path} is damaged, or no .spz file: {error}") from error
    if len(content) < size:
        raise ValueError(f"{path} is damaged: its content has {len(content)} bytes of {size}")
    return content


def zstd_streams(data: bytes, count: int, sizes: list[int], path: Path) -> list[bytes]:
    """The content of streams that a table lists, which follow each other.

    Args:
        data: The file.
        count: Streams in the table.
        sizes: Bytes that the first of them have to have; those of no bytes may be missing.
        path: The file, for messages.

    Raises:
        ValueError: The file is damaged.
    """
    import zstandard

    believable(sum(sizes), len(data), path)
    table = struct.unpack_from("<I", data, 16)[0] if len(data) >= 32 else len(data)
    start = table + count * _STREAM.size
    if start > len(data) or count < sum(size > 0 for size in sizes):
        raise ValueError(f"{path} is damaged: its {count} streams are not there")
    contents = []
    for number, size in enumerate(sizes):
        if number >= count:
            contents.append(b"")
            continue
        packed, unpacked = _STREAM.unpack_from(data, table + number * _STREAM.size)
        if unpacked != size or start + packed > len(data):
            raise ValueError(
                f"{path} is damaged: stream {number} is to have {unpacked} bytes, expected {size}"
            )
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                data[start : start + packed]
            ) as reader:
                content = reader.read(size) if size else b""
        except zstandard.ZstdError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if len(content) != size:
            raise ValueError(f"{path} is damaged: stream {number} ends after {len(content)} bytes")
        contents.append(content)
        start += packed
    return contents
