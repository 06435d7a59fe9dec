"""The search for a region as the bot sees it: one small process for each question."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from bot.engine.parent.child_process import ChildProcess
from bot.engine.parent.environment import child_environment
from bot.regions.child import WHOLE

log = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-m", "bot.regions.child")
# A large picture takes about a second, or longer on a machine that swaps.
_LIMIT_S: Final = 20.0
_AT_ONCE: Final = 2
_HEADER_BYTES: Final = 2**12
_FILE_BYTES: Final = 2**25
_REAP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """A region of a picture: its mask (PNG, white is meant) and how it looks (a small JPEG)."""

    mask: bytes = field(repr=False)
    preview: bytes = field(repr=False)
    share: float
    """How much of the picture it is, from 0 to 1."""
    marks: int = 0
    """How many marks were found; 0 where it was named."""


class RegionSearchError(Exception):
    """The process ended, was silent for too long, or said something that is no answer."""


class BrokenPictureError(Exception):
    """A picture cannot be unpacked."""


class RegionFinder:
    """Finds regions in a child process, which can read no file and ends with its answer."""

    def __init__(
        self,
        *,
        confined: bool = True,
        command: Sequence[str] = _COMMAND,
        limit_s: float = _LIMIT_S,
    ) -> None:
        self._command = (*command, str(int(confined)), str(os.getpid()))
        self._limit_s = limit_s
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def marked(self, original: bytes, copy: bytes) -> FoundRegion | None:
        """Return the region that is marked on a copy of a picture; None where none is.

        Raises `RegionSearchError`.
        """
        with suppress(BrokenPictureError):
            return await self._ask(original, copy, None)
        return None

    async def named(self, picture: bytes, name: str) -> FoundRegion | None:
        """Return the region of that name (`bot.regions.named.NAMES`); None where there is none.

        Raises `BrokenPictureError` or `RegionSearchError`.
        """
        return await self._ask(picture, b"", name)

    async def small(self, picture: bytes) -> bytes | None:
        """Return a small JPEG of anybody's picture; None where it cannot be read.

        Raises `RegionSearchError`.
        """
        with suppress(BrokenPictureError):
            found = await self._ask(picture, b"", WHOLE)
            return None if found is None else found.preview
        return None

    async def _ask(self, first: bytes, second: bytes, name: str | None) -> FoundRegion | None:
        header = json.dumps({"lengths": [len(first), len(second)], "name": name}).encode()
        async with self._slots:
            try:
                process = await ChildProcess.start(self._command, child_environment())
            except OSError as error:
                raise RegionSearchError(f"it could not be started: {error.strerror}") from error
            try:
                async with asyncio.timeout(self._limit_s):
                    return await _answer(process, (header, b"\n", first, second))
            except TimeoutError:
                raise RegionSearchError(f"no answer in {self._limit_s:g} s") from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                raise RegionSearchError(f"{process.obituary()} ({type(error).__name__})") from error
            finally:
                process.kill()
                await asyncio.shield(_reap(process))


async def _reap(process: ChildProcess) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await process.exited.wait()
    process.close_pipes()


async def _answer(process: ChildProcess, question: Sequence[bytes]) -> FoundRegion | None:
    unread = asyncio.create_task(_drain(process))
    try:
        with suppress(ConnectionError):
            process.stdin.writelines(question)
            await process.stdin.drain()
        said = read_header(await process.stdout.readuntil(b"\n"))
        if not said["found"]:
            if (broken := said.get("broken")) is not None:
                log.info("a picture could not be unpacked to be searched: %s", broken)
                raise BrokenPictureError(broken)
            if "failed" in said:
                log.info("a picture could not be searched: %s", said["failed"])
            return None
        mask, preview = [await process.stdout.readexactly(size) for size in said["lengths"]]
        return FoundRegion(mask, preview, float(said["share"]), int(said["marks"]))
    finally:
        unread.cancel()


async def _drain(process: ChildProcess) -> None:
    """Read what it prints, so that it never waits for that."""
    while await process.stderr.read(_HEADER_BYTES):
        pass


def read_header(line: bytes) -> dict[str, Any]:
    """Return what was said; raise `ValueError` for anything else than an answer."""
    try:
        said = cast("dict[str, Any]", json.loads(line))
    except RecursionError:
        raise ValueError("too deep") from None
    match said:
        case {"found": False}:
            return said
        case {
            "found": True,
            "lengths": [int(mask), int(preview)],
            "share": float(),
            "marks": int(),
        } if 0 < mask <= _FILE_BYTES and 0 < preview <= _FILE_BYTES and 0 <= said["share"] <= 1:
            return said
        case _:
            raise ValueError("no answer")
