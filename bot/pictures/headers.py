"""Picture headers: the size that a PNG, JPEG, WebP or GIF file claims, and the shape as it is seen.

Sources: PNG (third edition) 11.2.2, GIF89a 18, JPEG (ITU T.81) B.2.2, the WebP container
specification.
"""

from __future__ import annotations

from typing import Final

from bot.pictures.containers import big, jpeg_segments, little, picture_kind, webp_chunks
from bot.pictures.exif import orientation

BYTES_LIMIT: Final = 25 * 2**20
PIXELS_LIMIT: Final = 50_000_000
"""The most that a picture to start from may have; the engine refuses more as well."""
# Start of frame, of every kind of coding: not DHT (C4), JPG (C8) and DAC (CC) among them.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LYING: Final = frozenset({5, 6, 7, 8})  # orientations of a quarter turn


def picture_shape(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels of a picture as it is seen, turned upright.

    None where it claims none. Phones store a portrait lying, and note how to turn it.
    """
    width, height = picture_size(data) or (0, 0)
    if not width or not height:
        return None
    return (height, width) if orientation(data) in _LYING else (width, height)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels that a picture claims; None where it claims none."""
    match picture_kind(data):
        case "PNG" if data[12:16] == b"IHDR" and len(data) >= 24:  # noqa: PLR2004
            return big(data[16:20]), big(data[20:24])
        case "GIF" if len(data) >= 10:  # noqa: PLR2004
            return little(data[6:8]), little(data[8:10])
        case "JPEG":
            for marker, body in jpeg_segments(data):
                if marker in _FRAMES and len(body) >= 5:  # noqa: PLR2004
                    return big(body[3:5]), big(body[1:3])
        case "WebP":
            for kind, body in webp_chunks(data):
                if (size := _webp_size(kind, bytes(body[:10]))) is not None:
                    return size
        case _:
            pass
    return None


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(body) >= 10:  # noqa: PLR2004
        return little(body[4:7]) + 1, little(body[7:10]) + 1
    if kind == b"VP8L" and len(body) >= 5:  # noqa: PLR2004
        bits = little(body[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10:  # noqa: PLR2004
        return little(body[6:8]) & 0x3FFF, little(body[8:10]) & 0x3FFF
    return None
