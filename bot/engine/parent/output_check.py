"""The check of an engine's output: each picture and preview was asked for, and is a whole file.

The child's code is not trusted: it has read weights of strangers. What it says is compared with
what was ordered, and what it wrote is read in blocks, bounded by the ordered size, no library being
asked to unpack it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from bot.engine.frames import FrameError
from bot.engine.parent.jpeg_check import check_jpeg
from bot.engine.parent.png_check import check_png
from bot.engine.protocol import (
    EngineRequest,
    Event,
    Finished,
    Picture,
    Preview,
    Request,
    Step,
    WriteRequest,
    Written,
)
from storage.plain_files import UntrustedFileError, open_plain

_CHANNELS: Final = 4
_FILE_OVERHEAD: Final = 2**16
_PREVIEW_OVERHEAD: Final = 2**16
_PREVIEW_SHARE: Final = 16
"""A preview has a sixteenth of the job's pixels; as noise, each has half a byte (measured)."""
_TOKEN_LENGTH: Final = 512
"""Characters of a token: the longest of Qwen's vocabulary are 128 spaces."""
_PREVIEW_SIDES: Final = 2
"""Sides of a preview's sheet of pictures: at most those of this many pictures of the job each."""


class OutputCheck:
    """The check of what a child tells about one job."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._seen: set[int] = set()
        self._tokens = 0
        self._length = 0

    async def event(self, event: Event) -> Event:
        """Return the event, a picture with the hash of its file.

        Raises `FrameError` for what wasn't asked for, pictures that are broken or missing, and
        texts that are too long.
        """
        if isinstance(self._request, WriteRequest):
            self._check_written(event, self._request)
            return event
        return await check_event(event, self._request, self._seen)

    def _check_written(self, event: Event, request: WriteRequest) -> None:
        if isinstance(event, Step | Preview | Picture):
            raise FrameError("the child drew where it was to write")
        if isinstance(event, Finished) and event.ending is None:
            raise FrameError("the child does not say why its text ended")
        if not isinstance(event, Written):
            return
        if not self._tokens <= event.tokens <= request.max_tokens:
            raise FrameError(f"the child wrote token {event.tokens} of {request.max_tokens}")
        self._tokens = event.tokens
        self._length += len(event.text)
        if self._length > _TOKEN_LENGTH * self._tokens:
            raise FrameError(f"the child wrote {self._length} characters in {self._tokens} tokens")


async def check_event(event: Event, request: EngineRequest, seen: set[int]) -> Event:
    """Return the event, a picture with the hash of its file.

    Raises `FrameError` for pictures that weren't asked for, are broken, or are missing.
    """
    if isinstance(event, Written) or (isinstance(event, Finished) and event.ending is not None):
        raise FrameError("the child wrote where it was to draw")
    if isinstance(event, Picture):
        check_picture(event, request, seen)
        limit = file_limit(request, event.index)
        size = (request.width, request.height)
        sha256 = await asyncio.to_thread(
            check_file, event.path, size, limit, alpha=request.transparent
        )
        seen.add(event.index)
        return replace(event, sha256=sha256)
    if isinstance(event, Preview):
        check_preview(event, request)
    elif isinstance(event, Finished) and len(seen) != len(request.seeds):
        raise FrameError(f"the child ended with {len(seen)} of {len(request.seeds)} pictures")
    return event


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


def check_preview(preview: Preview, request: EngineRequest) -> None:
    """Raise `FrameError` where a preview is no small JPEG file of at most the job's size."""
    # Some models draw a batch in one pass, others picture by picture.
    if not 0 <= preview.step <= request.steps * len(request.seeds):
        raise FrameError("the child sent a preview of no step")
    pixels = request.width * request.height * len(request.seeds)
    if len(preview.data) > pixels // _PREVIEW_SHARE + _PREVIEW_OVERHEAD:
        raise FrameError(f"the child sent a preview of {len(preview.data)} bytes")
    width, height = check_jpeg(preview.data)
    if width > _PREVIEW_SIDES * request.width or height > _PREVIEW_SIDES * request.height:
        raise FrameError(f"the child sent a preview of {width}x{height}")


def file_limit(request: EngineRequest, index: int) -> int:
    """Return the most bytes that picture `index` may have as a PNG file.

    That is its pixels as they are, with what deflate and chunks of 8 KiB add where nothing can be
    compressed (RFC 1951, 3.2.4: 5 bytes for 64 KiB), and its texts.
    """
    texts: Mapping[str, str] = request.texts[index] if index < len(request.texts) else {}
    written = sum(len(name.encode()) + len(text.encode()) for name, text in texts.items())
    pixels = request.height * (1 + _CHANNELS * request.width)
    return pixels + pixels // 256 + 2 * written + _FILE_OVERHEAD


def check_file(path: Path, size: tuple[int, int], limit: int, *, alpha: bool = False) -> str:
    """Return the SHA-256, in hex, of a whole PNG file of that size in pixels.

    `limit` is the most bytes that it may have, and with `alpha` it must have an alpha channel.
    Raises `FrameError` for anything else, a link to such a file among it. Blocking.
    """
    try:
        with open_plain(path.parent.parent, Path(path.parent.name, path.name), own=True) as file:
            found, sha256 = check_png(file, limit, alpha=alpha)
    except UntrustedFileError as error:
        raise FrameError(f"the child's picture: {error.strerror}") from error
    except OSError as error:
        raise FrameError(f"the child's picture cannot be read: {error.strerror}") from error
    if found != size:
        raise FrameError(f"the child's picture is {found[0]}x{found[1]} inside")
    return sha256
