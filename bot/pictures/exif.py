"""Exif and XMP: the blocks of a picture that hold its orientation, and what programs noted in it.

Read from PNG, JPEG and WebP alike, within bounds. Sources: Exif 2.32 4.5 and 4.6, TIFF 6.0 2, PNG
(third edition) 11.3.3.4 and 11.3.4, XMP part 3 (storage in files), the WebP container
specification.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from bot.pictures.containers import big, jpeg_segments, picture_kind, png_chunks, webp_chunks

VALUE_LIMIT: Final = 4 * 2**20
"""The most bytes of one text that are read, packed or not."""

DESCRIPTION, MAKE, MODEL, ORIENTATION, SOFTWARE = 0x010E, 0x010F, 0x0110, 0x0112, 0x0131
USER_COMMENT: Final = 0x9286
_EXIF_IFD: Final = 0x8769
# The tags that are kept: ComfyUI counts down from Make for whatever else it has to say.
_KEPT: Final = frozenset({*range(0x010A, 0x0113), SOFTWARE, USER_COMMENT})
_BYTES_TYPES: Final = frozenset({1, 2, 7, 129})  # BYTE, ASCII, UNDEFINED, and Exif 3.0's UTF-8
_NUMBER_SIZES: Final = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT, LONG
_ENTRIES_LIMIT: Final = 1000
_HEADER: Final = b"Exif\0\0"
_XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"
_APP1: Final = 0xE1
_RAW_PROFILES: Final = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
# As Pillow finds it, which turns the picture by it.
_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_TURNS: Final = 8


class TooLongError(ValueError):
    """A text of a picture is longer than what is read of one."""


def inflated(packed: bytes | memoryview) -> bytes | None:
    """Unpack a text; None where it is damaged. Raises `TooLongError` past `VALUE_LIMIT`.

    A few kilobytes may claim gigabytes.
    """
    try:
        found = zlib.decompressobj().decompress(packed, VALUE_LIMIT + 1)
    except zlib.error:
        return None
    if len(found) > VALUE_LIMIT:
        raise TooLongError
    return found


def orientation(data: bytes) -> int:
    """Return how a picture is to be turned, from 1 (as it lies) to 8 (Exif 2.32, 4.6.4)."""
    value = read_exif(exif_block(data)).get(ORIENTATION)
    if value is None and (found := _XMP_ORIENTATION.search(xmp_packet(data))):
        return int(found[1])
    return big(value) if value else 1


def exif_block(data: bytes) -> bytes:
    """Return a picture's Exif as a TIFF block, empty without one."""
    match picture_kind(data):
        case "PNG":
            block = b"".join(islice(_png_exif(data), 1))
        case "JPEG":
            # A block of more than 64 KiB goes on in the next segment.
            block = b"".join(
                body.removeprefix(_HEADER)
                for marker, body in jpeg_segments(data)
                if marker == _APP1 and body.startswith(_HEADER)
            )
        case "WebP":
            found = (bytes(body) for kind, body in webp_chunks(data) if kind == b"EXIF")
            block = b"".join(islice(found, 1))
        case _:
            block = b""
    return block.removeprefix(_HEADER)


def _png_exif(data: bytes) -> Iterator[bytes]:
    """Yield a PNG's own chunk, then ImageMagick's older way: a text of hexadecimal digits."""
    yield from (bytes(body) for kind, body in png_chunks(data) if kind == b"eXIf")
    for kind, body in png_chunks(data):
        if kind == b"zTXt" and bytes(body[:32]).startswith(_RAW_PROFILES):
            try:
                digits = inflated(bytes(body).partition(b"\0")[2][1:]) or b""
                yield bytes.fromhex(b"".join(digits.split(b"\n", 3)[3:]).decode("ascii"))
            except (TooLongError, ValueError):
                continue


def xmp_packet(data: bytes) -> bytes:
    """Return a picture's XMP, at most `VALUE_LIMIT` bytes, empty without any."""
    match picture_kind(data):
        case "PNG":
            return b"".join(islice(_png_xmp(data), 1))
        case "JPEG":
            for marker, body in jpeg_segments(data):
                if marker == _APP1 and body.startswith(_XMP_HEADER):
                    return body.removeprefix(_XMP_HEADER)
        case "WebP":
            for kind, body in webp_chunks(data):
                if kind == b"XMP ":
                    return bytes(body[:VALUE_LIMIT])
        case _:
            pass
    return b""


def _png_xmp(data: bytes) -> Iterator[bytes]:
    name = b"XML:com.adobe.xmp\0"
    for kind, body in png_chunks(data):
        if kind == b"iTXt" and bytes(body[: len(name)]) == name:
            try:
                yield international(bytes(body[len(name) : len(name) + VALUE_LIMIT])) or b""
            except TooLongError:
                continue


def international(rest: bytes) -> bytes | None:
    """Return the UTF-8 of an iTXt chunk, by what follows its name; None where it is damaged."""
    packed, rest = rest[:1] == b"\1", rest[2:]
    _language, _nul, rest = rest.partition(b"\0")
    _keyword, _nul, text = rest.partition(b"\0")
    return inflated(text) if packed else text


def read_exif(tiff: bytes) -> Mapping[int, bytes]:
    """Return the values of a TIFF block by their tag, the number of the orientation as one byte.

    Two directories deep, no links; a tag that comes again counts once. The values are cut off at
    one byte more than `VALUE_LIMIT`.
    """
    if tiff[:4] not in {b"II*\0", b"MM\0*"}:
        return {}
    order = "little" if tiff[:2] == b"II" else "big"
    values: dict[int, bytes] = {}

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    def read(directory: int) -> None:
        """Read a directory's entries: each its tag, its type, how many, and where they lie."""
        for index in islice(range(number(directory, 2)), _ENTRIES_LIMIT):
            entry = directory + 2 + 12 * index
            tag, kind, count = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4)
            if tag not in _KEPT or tag in values:
                continue
            if tag == ORIENTATION:
                if count == 1 and kind in _NUMBER_SIZES:
                    turned = number(entry + 8, _NUMBER_SIZES[kind])
                    if 1 <= turned <= _TURNS:
                        values[tag] = bytes([turned])
            elif kind in _BYTES_TYPES:
                at = entry + 8 if count <= 4 else number(entry + 8, 4)  # noqa: PLR2004
                values[tag] = tiff[at : at + min(count, VALUE_LIMIT + 1)]

    main = number(4, 4)
    read(main)
    for index in islice(range(number(main, 2)), _ENTRIES_LIMIT):
        entry = main + 2 + 12 * index
        if number(entry, 2) == _EXIF_IFD:
            read(number(entry + 8, 4))
            break
    return values
