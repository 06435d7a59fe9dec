"""Picture containers: the parts that PNG, JPEG and WebP files are made of, without any decoder.

Anyone may have made these bytes, so this process hands them to no library: all lengths are checked
against what is there, every walk has an end, and nothing is unpacked. Sources: PNG (third edition)
5.3, JPEG (ITU T.81) B.1, and the WebP container specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_PARTS_LIMIT: Final = 10_000
_BARE_MARKERS: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN: Final = 0xDA


def picture_kind(data: bytes) -> str | None:
    """Return what kind of picture begins like this, or None."""
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(_JPEG):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return "GIF"
    return None


def big(data: bytes) -> int:
    """Return a number whose first byte counts most."""
    return int.from_bytes(data, "big")


def little(data: bytes) -> int:
    """Return a number whose last byte counts most."""
    return int.from_bytes(data, "little")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield a PNG's whole chunks by their name, up to its end or its damage."""
    at, view = len(_PNG), memoryview(data)
    for _ in range(_PARTS_LIMIT):
        head = data[at : at + 8]
        length, kind = big(head[:4]), head[4:]
        if kind in {b"", b"IEND"} or at + 8 + length > len(data):
            return
        yield kind, view[at + 8 : at + 8 + length]
        at += 12 + length


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a JPEG's segments up to its pixels, by their marker."""
    at = 2
    for _ in range(_PARTS_LIMIT):
        if data[at : at + 1] != b"\xff" or at + 2 > len(data):
            return
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            length = big(data[at + 2 : at + 4])
            if marker == _SCAN or length < 2:  # noqa: PLR2004
                return
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + length


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield a WebP's chunks by their name; the last may be cut off."""
    at, view = 12, memoryview(data)
    for _ in range(_PARTS_LIMIT):
        if at + 8 > len(data):
            return
        length = little(data[at + 4 : at + 8])
        yield data[at : at + 4], view[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
