"""Frames, prefixed by their length, between the bot and its engine child.

A frame is a 4-byte big-endian length, then a JSON object on one line, a newline, and an optional
binary tail (a preview's picture). Nothing is ever pickled.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

LIMIT: Final = 4 * 2**20
"""The most bytes that a frame may have after its length.

The longest request (two texts of 4,000 characters, repeated in eight PNG texts) is under 1 MiB.
"""
HEADER_LIMIT: Final = 2**16
"""The most bytes of JSON in what a child says: its longest message, a failure, has about 2,000.

Read, JSON takes up to thirty times its length (a list of empty lists).
"""
_LENGTH: Final = struct.Struct(">I")
# What a frame weighs in a queue: one for itself, and one more for each of these.
_TAIL_UNIT, _HEADER_UNIT = 2**15, 2**11


class FrameError(Exception):
    """The bytes are not a frame: too long, not a JSON object, or cut off."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message: a JSON object with a `type`, and bytes that JSON can't carry."""

    header: Mapping[str, Any]
    tail: bytes = field(default=b"", repr=False)
    header_bytes: int = field(default=0, compare=False, repr=False)
    """The bytes that its JSON came as."""

    @property
    def weight(self) -> int:
        """How much room it takes while it waits to be read: 1 for most, up to about 200."""
        return 1 + len(self.tail) // _TAIL_UNIT + self.header_bytes // _HEADER_UNIT

    @property
    def type(self) -> str:
        """What kind of message this is."""
        return str(self.header["type"])


def encode(frame: Frame) -> bytes:
    """Return the bytes of `frame`; raise `FrameError` past the limit."""
    body = json.dumps(frame.header, ensure_ascii=True, separators=(",", ":")).encode()
    payload = body + b"\n" + frame.tail
    if len(payload) > LIMIT:
        raise FrameError(f"a frame of {len(payload)} bytes is over the limit of {LIMIT}")
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes, header_limit: int = LIMIT) -> Frame:
    """Read what follows the length; raise `FrameError` if it is not a frame."""
    end = payload.find(b"\n", 0, header_limit + 1)
    if end < 0:
        if len(payload) > header_limit:
            raise FrameError(f"a frame's header is over the limit of {header_limit} bytes")
        raise FrameError("a frame's header does not end")
    body, tail = payload[:end], payload[end + 1 :]
    try:
        header = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError("a frame's header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("a frame's header is not an object with a type")
    return Frame(header, tail, len(body))


def _checked(length: bytes) -> int:
    (size,) = _LENGTH.unpack(length)
    if size > LIMIT:
        raise FrameError(f"a frame announces {size} bytes, over the limit of {LIMIT}")
    return size


async def read_frame(reader: asyncio.StreamReader, header_limit: int = LIMIT) -> Frame | None:
    """Read the next frame; None at the end of the stream, even in the middle of a frame.

    `header_limit` is the most bytes that its JSON may have. Raises `FrameError` for anything else
    that is not a frame.
    """
    try:
        size = _checked(await reader.readexactly(_LENGTH.size))
        return decode(await reader.readexactly(size), header_limit)
    except asyncio.IncompleteReadError:
        return None


def read_frame_blocking(stream: BinaryIO) -> Frame | None:
    """Do as `read_frame` with a buffered file; blocks."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    size = _checked(length)
    payload = stream.read(size)
    return decode(payload) if len(payload) == size else None
