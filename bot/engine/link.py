"""One engine child: its process, its frames, its log lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from bot.engine.frames import Frame, FrameError, encode, read_frame
from bot.engine.lifeline import JobObject
from bot.errors import EngineError, EngineErrorKind

_log = logging.getLogger("bot.engine.child")
_UNREAD_FRAMES: Final = 256
_LINE_BYTES: Final = 2000
_LEVELS: Final = (
    (re.compile(r"^Traceback|^\w[\w.]*(Error|Exception)\b|\b(ERROR|FATAL)\b"), logging.ERROR),
    (re.compile(r"warn|deprecat", re.IGNORECASE), logging.WARNING),
)


class Link:
    """A started child process and the pipes to it.

    Frames wait here until `receive` takes them; past a few hundred the child is made to wait.
    """

    def __init__(self, process: Process, job_object: JobObject) -> None:
        self._process = process
        self._job_object = job_object
        self._frames: asyncio.Queue[Frame | EngineError | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_UNREAD_FRAMES)
        self._heard = time.monotonic()
        self._end: EngineError | None = None
        self._reader = asyncio.create_task(self._read_frames(), name="engine-frames")
        self._logger = asyncio.create_task(self._read_log(), name="engine-log")
        self._killed = False
        self.loaded = False
        """Whether the child has said that its model is ready."""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start `command` (spawned, never forked from this process's state)."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(environment)
        )
        job_object = JobObject()
        with contextlib.suppress(OSError):
            job_object.add(process.pid)
        return cls(process, job_object)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether nothing more can come from the child."""
        return self._end is not None

    async def send(self, kind: str, /, **fields: Any) -> None:
        """Send a message. A child that is gone shows in `receive`, not here."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(encode(Frame({"type": kind, **fields})))
            await self._process.stdin.drain()

    async def receive(self, limit: float, what: str) -> Frame | None:
        """Return the child's next message other than heartbeats; None after `wake`.

        Raises `EngineError`: `SILENT` after `limit` seconds (of doing `what`), `GARBLED`, `DIED`.
        """
        try:
            async with asyncio.timeout(limit):
                item = await self._frames.get()
        except TimeoutError:
            beat = time.monotonic() - self._heard
            raise EngineError(
                EngineErrorKind.SILENT,
                f"no progress in {limit:g} s of {what}; last sign of life {beat:.0f} s ago",
            ) from None
        if isinstance(item, EngineError):
            self._frames.put_nowait(item)  # every later call finds the end again
            raise EngineError(item.kind, item.detail)
        if item is not None:
            self._room.release()
        return item

    def wake(self) -> None:
        """Let the present or next `receive` return None."""
        self._frames.put_nowait(None)

    def take_unread(self) -> bool:
        """Drop what nobody waits for; return whether the child had sent messages unasked."""
        messages = False
        while not self._frames.empty() and not self.ended:
            item = self._frames.get_nowait()
            if isinstance(item, Frame):
                messages = True
                self._room.release()
        return messages

    async def kill(self) -> None:
        """End the process at once (SIGKILL) and take back everything it held. Idempotent."""
        self._killed = True
        self._room.release()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(asyncio.ensure_future(self._reap()))

    async def close(self, patience: float) -> None:
        """Close the child's input, which ends it; kill it after `patience` seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._process.wait()
        await self.kill()

    async def _reap(self) -> None:
        await self._process.wait()
        # A grandchild may still hold the pipes open: don't wait for their ends for ever.
        await asyncio.wait({self._reader, self._logger}, timeout=1.0)
        for task in (self._reader, self._logger):
            task.cancel()
        await asyncio.gather(self._reader, self._logger, return_exceptions=True)
        if self._end is None:
            self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))
        # asyncio offers no public way to close the pipes of a process that has ended.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001

    def _finish(self, end: EngineError) -> None:
        self._end = end
        self._frames.put_nowait(end)

    def _obituary(self) -> str:
        code = self._process.returncode
        if code is None:
            return "the child closed its pipe"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the child was ended by {signal.Signals(-code).name}"
        return f"the child exited with status {code}"

    async def _read_frames(self) -> None:
        assert self._process.stdout is not None
        try:
            while (frame := await read_frame(self._process.stdout)) is not None:
                self._heard = time.monotonic()
                if frame.type != "heartbeat" and not self._killed:
                    await self._room.acquire()
                    self._frames.put_nowait(frame)
        except FrameError as error:
            self._finish(EngineError(EngineErrorKind.GARBLED, str(error)))
            # asyncio sees the process's end only when its pipes have been read to theirs.
            while await self._process.stdout.read(2**16):
                pass
            return
        # The pipe's end comes a moment before the exit status.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._process.wait()
        self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(4096):
            # Progress bars end their lines with a carriage return.
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                _write_log(line)
            if len(rest) > _LINE_BYTES:
                _write_log(rest)
                rest = b""
        _write_log(rest)


def _write_log(line: bytes) -> None:
    text = line[:_LINE_BYTES].decode("utf-8", "replace").rstrip()
    if text:
        level = next((level for pattern, level in _LEVELS if pattern.search(text)), logging.INFO)
        _log.log(level, "%s", text)


def own_command(command: Sequence[str]) -> list[str]:
    """Return `command` with this process's id, which the child checks against its parent's."""
    return [*command, str(os.getpid())]
