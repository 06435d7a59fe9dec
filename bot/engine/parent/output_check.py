"""The check of an engine's output: each picture was asked for, and is a whole PNG file."""

from __future__ import annotations

import asyncio
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from bot.engine.frames import FrameError
from bot.engine.protocol import EngineRequest, Event, Finished, Picture

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK: Final = struct.Struct(">I4s")


async def check_event(event: Event, request: EngineRequest, seen: set[int]) -> None:
    """Raise `FrameError` for pictures that weren't asked for, are broken, or are missing."""
    if isinstance(event, Picture):
        check_picture(event, request, seen)
        await asyncio.to_thread(check_file, event.path, request.width, request.height)
        seen.add(event.index)
    elif isinstance(event, Finished) and len(seen) != len(request.seeds):
        raise FrameError(f"the child ended with {len(seen)} of {len(request.seeds)} pictures")


def check_picture(picture: Picture, request: EngineRequest, seen: set[int]) -> None:
    """Raise `FrameError` where `picture` isn't one that `request` asked for, or is in `seen`."""
    index = picture.index
    if not 0 <= index < len(request.seeds) or index in seen:
        raise FrameError(f"the child sent picture {index} twice or unasked")
    if picture.path != request.output_dir / f"{index}.png":
        raise FrameError("the child wrote a picture to another place than it was told")
    if picture.seed != request.seeds[index]:
        raise FrameError(f"the child drew picture {index} from another seed")
    if (picture.width, picture.height) != (request.width, request.height):
        raise FrameError(f"the child drew {picture.width}x{picture.height}")


def check_file(path: Path, width: int, height: int) -> None:
    """Raise `FrameError` where `path` isn't a whole PNG file of that size in pixels.

    Every chunk's checksum is computed (about 1 ms per megabyte); the pixels aren't unpacked.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FrameError("the child's picture is no file")
        with path.open("rb") as file:
            found = _size_of_png(file)
    except OSError as error:
        raise FrameError(f"the child's picture cannot be read: {error.strerror}") from error
    if found != (width, height):
        raise FrameError(f"the child's picture is {found[0]}x{found[1]} inside")


def _size_of_png(file: BinaryIO) -> tuple[int, int]:
    """Read all chunks (PNG specification, section 5) and return the size that the first names."""
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise FrameError("the child's picture is no PNG")
    size: tuple[int, int] | None = None
    while True:
        head = file.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            raise FrameError("the child's picture is cut off")
        length, kind = _CHUNK.unpack(head)
        data = file.read(length)
        checksum = file.read(4)
        if len(data) < length or len(checksum) < 4:  # noqa: PLR2004
            raise FrameError("the child's picture is cut off")
        if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise FrameError("the child's picture is damaged")
        if size is None:
            if kind != b"IHDR" or length != 13:  # noqa: PLR2004
                raise FrameError("the child's picture is no PNG")
            size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
        if kind == b"IEND":
            return size
