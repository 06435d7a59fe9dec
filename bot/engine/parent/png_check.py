"""The check of a PNG file that an engine's child wrote: whole, and not larger than it may be."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from typing import Final

from bot.engine.frames import FrameError
from storage.plain_files import BLOCK

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK: Final = struct.Struct(">I4s")
_HEADER_BYTES: Final = 13
_CHECKSUM_BYTES: Final = 4
_CHUNKS: Final = 20_000
_WITH_ALPHA: Final = frozenset({4, 6})
"""Colour types of the header that have an alpha channel."""
_COLOUR_TYPE: Final = 9


class _Reader:
    """Reads a file from its begin to its end, hashes it, and never reads more than it may have."""

    def __init__(self, file: io.BufferedReader, limit: int) -> None:
        self._file = file
        self._left = limit
        self.hash = hashlib.sha256()

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; raise `FrameError` where they are not there."""
        self._left -= size
        if self._left < 0:
            raise FrameError("the child's picture is too large")
        data = self._file.read(size)
        if len(data) < size:
            raise FrameError("the child's picture is cut off")
        self.hash.update(data)
        return data

    def at_end(self) -> bool:
        """Tell whether nothing follows."""
        return not self._file.read(1)


def check_png(
    file: io.BufferedReader, limit: int, *, alpha: bool = False
) -> tuple[tuple[int, int], str]:
    """Return the size in pixels that a PNG file of at most `limit` bytes names, and its SHA-256.

    Every chunk's checksum is computed (PNG specification, section 5; about 1 ms per megabyte); the
    pixels aren't unpacked. Raises `FrameError` for what is no whole PNG file, or with `alpha` for
    one without an alpha channel, and `OSError`.
    """
    # Before any of it is read: a file full of holes costs nobody anything to make.
    if os.fstat(file.fileno()).st_size > limit:
        raise FrameError("the child's picture is too large")
    reader = _Reader(file, limit)
    if reader.take(len(_SIGNATURE)) != _SIGNATURE:
        raise FrameError("the child's picture is no PNG")
    size: tuple[int, int] | None = None
    for _ in range(_CHUNKS):
        length, kind = _CHUNK.unpack(reader.take(_CHUNK.size))
        if size is None:
            if kind != b"IHDR" or length != _HEADER_BYTES:
                raise FrameError("the child's picture is no PNG")
            data = reader.take(length)
            size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
            if alpha and data[_COLOUR_TYPE] not in _WITH_ALPHA:
                raise FrameError("the child's picture has no alpha channel")
            found = zlib.crc32(data, zlib.crc32(kind))
        else:
            found = zlib.crc32(kind)
            while length:
                part = reader.take(min(length, BLOCK))
                found = zlib.crc32(part, found)
                length -= len(part)
        if found != int.from_bytes(reader.take(_CHECKSUM_BYTES), "big"):
            raise FrameError("the child's picture is damaged")
        if kind == b"IEND":
            if not reader.at_end():
                raise FrameError("the child's picture goes on after its end")
            return size, reader.hash.hexdigest()
    raise FrameError("the child's picture has too many parts")
