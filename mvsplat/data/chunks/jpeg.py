"""JPEG files that hold more than one picture: what is copied to a chunk is the first alone.

Cameras and phones append previews, depth and gain maps (as the Multi-Picture Format, MPF, lists
them) or a film to the photograph in a file, and describe these in its header.
"""

import re

_END = 0xD9
# In the compressed data of a scan, 0xFF is followed by zero or by a restart's number.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
# Of the segments that say what else is in the file: marker and first bytes.
_ABOUT_OTHERS = (
    (0xE2, b"MPF\0"),
    (0xE2, b"urn:iso:std:iso:ts:21496:"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0"),
)


def first_picture(data: bytes) -> bytes:
    """The first picture of a JPEG file, its compressed data untouched.

    Where other things follow it they are left out, and so are the header's segments about them
    (MPF, gain maps, XMP). A file of one picture stays as it is, and so does what is no JPEG file.
    """
    if not data.startswith(b"\xff\xd8"):
        return data
    position = 2
    described: list[tuple[int, int]] = []
    while marker := _MARKER.search(data, position):
        kind, position = marker[1][0], marker.end()
        if kind == _END:
            return data if position == len(data) else _without(data[:position], described)
        if kind == 0x01:
            continue  # a marker without a segment
        content = data[position + 2 : position + 50]
        position += int.from_bytes(data[position : position + 2], "big")
        if any(kind == k and content.startswith(start) for k, start in _ABOUT_OTHERS):
            described.append((marker.start(), position))
    return data


def _without(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    for start, end in reversed(spans):
        data = data[:start] + data[end:]
    return data
