"""What a JPEG file says of itself, read from its markers without decoding a pixel (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from dataclasses import dataclass

START = b"\xff\xd8"
END = 0xD9
SCAN = 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the three are tables and a reserved code
# Within coded data 0xff is followed by 0 where it is data, and by d0..d7 where decoding may restart (B.1.1.5).
MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])")


class JpegError(Exception):
    """The bytes are no whole JPEG; the message says why, as what follows the file's name."""


@dataclass(frozen=True)
class Frame:
    """The size of an image in pixels as it is stored (before EXIF turns it), and 1, 3 or 4 components of some bits.

    `scans` is in how many passes its pixels are coded.
    """

    width: int
    height: int
    components: int
    bits: int
    scans: int


def frame(data: bytes) -> Frame:
    """Return the frame of a whole JPEG file. Raises JpegError if it is empty, no JPEG, or cut off."""
    if not data:
        raise JpegError("is empty")
    if not data.startswith(START):
        raise JpegError(f"is no JPEG: it begins with {data[:4].hex(' ')}, not with {START.hex(' ')}")
    found, scans, position = None, 0, len(START)
    while marker := MARKER.search(data, position):
        code, position = marker[1][0], marker.end()
        if code == END:
            break
        segment = data[position : position + int.from_bytes(data[position : position + 2])]
        if code in FRAMES and found is None and len(segment) >= 8:
            found = segment
        scans += code == SCAN
        position += max(2, len(segment))
    if marker is None:
        raise JpegError("is cut off: the marker that ends a JPEG is missing")
    if found is None:
        raise JpegError("holds no image: a JPEG's header without a frame")
    height, width = int.from_bytes(found[3:5]), int.from_bytes(found[5:7])
    return Frame(width, height, components=found[7], bits=found[2], scans=scans)
