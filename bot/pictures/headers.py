"""Picture headers: what that of a PNG, JPEG, WebP or GIF file says, without any decoder.

Anyone may have made these bytes, so this process hands them to no library: all lengths are checked
against what is there, every walk has an end, and nothing is unpacked. Sources: PNG (third edition)
11.2.2, GIF89a 18, JPEG (ITU T.81) B.2.2, Exif 2.32 4.6, and the WebP container specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_EXIF: Final = b"Exif\0\0"
_PARTS_LIMIT: Final = 10_000
_ENTRIES_LIMIT: Final = 1000
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_ONE_BYTE_TYPES: Final = (1, 2, 7)  # BYTE, ASCII, UNDEFINED
# Start of frame, of every kind of coding: not DHT (C4), JPG (C8) and DAC (CC) among them.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
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


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels that a picture claims; None where it claims none."""
    match picture_kind(data):
        case "PNG" if data[12:16] == b"IHDR" and len(data) >= 24:  # noqa: PLR2004
            return _big(data[16:20]), _big(data[20:24])
        case "GIF" if len(data) >= 10:  # noqa: PLR2004
            return _little(data[6:8]), _little(data[8:10])
        case "JPEG":
            for marker, body in _segments(data):
                if marker in _FRAMES and len(body) >= 5:  # noqa: PLR2004
                    return _big(body[3:5]), _big(body[1:3])
        case "WebP":
            for kind, body in _chunks(data):
                if (size := _webp_size(kind, body)) is not None:
                    return size
        case _:
            pass
    return None


def exif_comment(data: bytes, limit: int) -> bytes | None:
    """Return at most `limit` bytes of a JPEG's or WebP's Exif UserComment, None without one."""
    match picture_kind(data):
        case "JPEG":
            blocks = (body for marker, body in _segments(data) if marker == 0xE1)  # noqa: PLR2004
        case "WebP":
            blocks = (body for kind, body in _chunks(data) if kind == b"EXIF")
        case _:
            return None
    for block in blocks:
        if block.startswith(_EXIF) or block[:2] in {b"II", b"MM"}:
            return _user_comment(block.removeprefix(_EXIF), limit)
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
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
            length = _big(data[at + 2 : at + 4])
            if marker == _SCAN or length < 2:  # noqa: PLR2004
                return
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + length


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a WebP's chunks by their name."""
    at = 12
    for _ in range(_PARTS_LIMIT):
        if at + 8 > len(data):
            return
        length = _little(data[at + 4 : at + 8])
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(body) >= 10:  # noqa: PLR2004
        return _little(body[4:7]) + 1, _little(body[7:10]) + 1
    if kind == b"VP8L" and len(body) >= 5:  # noqa: PLR2004
        bits = _little(body[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10:  # noqa: PLR2004
        return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF
    return None


def _user_comment(tiff: bytes, limit: int) -> bytes | None:
    """Return the comment in the Exif directory of a TIFF block: two directories deep, no links."""
    order = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    def entries(at: int) -> Iterator[tuple[int, int]]:
        """Yield each entry of a directory: its tag, and where it lies."""
        for index in islice(range(number(at, 2)), _ENTRIES_LIMIT):
            entry = at + 2 + 12 * index
            yield number(entry, 2), entry

    for tag, entry in entries(number(4, 4)):
        if tag != _EXIF_IFD:
            continue
        for inner, place in entries(number(entry + 8, 4)):
            if inner == _USER_COMMENT and number(place + 2, 2) in _ONE_BYTE_TYPES:
                length = number(place + 4, 4)
                start = place + 8 if length <= 4 else number(place + 8, 4)  # noqa: PLR2004
                return tiff[start : start + min(length, limit)]
    return None
