"""The check of a preview: a whole JPEG file, looked at without any decoder."""

from __future__ import annotations

import re
from typing import Final

from bot.engine.frames import FrameError

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN: Final = 0xDA
_ALLOWED: Final = frozenset({0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA, 0xE0, 0xEE})
"""Segments that a picture needs (ITU T.81, B.1.1.3): no comment, Exif or profile."""
_FRAMES: Final = frozenset({0xC0, 0xC2})
_FRAME_BYTES: Final = 6
# In a scan's data 0xFF is followed by a zero, or is a restart marker (B.1.1.5, B.1.1.2).
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_SEGMENTS: Final = 1000


def check_jpeg(data: bytes) -> tuple[int, int]:
    """Return the width and height in pixels; raise `FrameError` for what is no whole JPEG file."""
    if not data.startswith(_START):
        raise FrameError("the child's preview is no JPEG")
    at, size = len(_START), None
    for _ in range(_SEGMENTS):
        if data[at : at + 2] == _END:
            if size is None or at + 2 != len(data):
                break
            return size
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if data[at : at + 1] != b"\xff" or not marker or len(body) != length - 2:
            break
        kind = marker[0]
        if kind not in _ALLOWED:
            break
        if kind in _FRAMES:
            if size is not None or len(body) < _FRAME_BYTES:
                break
            size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        at += 2 + length
        if kind == _SCAN:
            if size is None or (end := _MARKER.search(data, at)) is None:
                break
            at = end.start()
    raise FrameError("the child's preview is no whole JPEG")
