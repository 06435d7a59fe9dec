"""One engine child: its process, its frames, its log lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Final, Self

from typing_extensions import override

from bot.engine.frames import Frame, FrameError, encode, read_frame
from bot.engine.lifeline import JobObject
from bot.errors import EngineError, EngineErrorKind
from bot.logs import job_context
from bot.redact import Redactor

_log = logging.getLogger("bot.engine.child")
_UNREAD_FRAMES: Final = 32
_LINE_LENGTH: Final = 2000
_LINE_BYTES: Final = 2**16
_REAP_PATIENCE_S: Final = 1.0
_DEATH_PATIENCE_S: Final = 10.0
_LEVELS: Final = (
    (re.compile(r"^Traceback|^\w[\w.]*(Error|Exception)\b|\b(ERROR|FATAL)\b"), logging.ERROR),
    (re.compile(r"warn|deprecat", re.IGNORECASE), logging.WARNING),
)


class _Protocol(SubprocessStreamProtocol):
    """Tells of the process's exit itself; asyncio's `wait` waits for the ends of its pipes too.

    Those never come while something that the process started holds them open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(2**16, loop)
        self.exited = asyncio.Event()

    @override
    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class Link:
    """A started child process and the pipes to it.

    Frames wait here until `receive` takes them; past a few dozen the child is made to wait, so a
    child that floods the pipe fills no memory.
    """

    def __init__(self, process: Process, exited: asyncio.Event, job_object: JobObject) -> None:
        self._process = process
        self._exited = exited
        self._job_object = job_object
        self._frames: asyncio.Queue[Frame | EngineError | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_UNREAD_FRAMES)
        self._heard = time.monotonic()
        self._end: EngineError | None = None
        # The child outlives the job that it was started for, whose log context is not its own.
        alone = Context()
        self._reader = asyncio.create_task(self._read_frames(), name="engine-frames", context=alone)
        self._logger = asyncio.create_task(self._read_log(), name="engine-log", context=alone)
        self._watch = asyncio.create_task(self._watch_exit(), name="engine-exit", context=alone)
        self._killed = False
        self._redactors: deque[Redactor] = deque(maxlen=2)
        self._job = "-"
        self.loaded = False
        """Whether the child has said that its model is ready."""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start `command` (spawned, never forked from this process's state)."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(loop),
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(environment),
            start_new_session=True,  # A group of its own, which `kill` ends as a whole.
        )
        process = Process(transport, protocol, loop)
        job_object = JobObject()
        with contextlib.suppress(OSError):
            job_object.add(process.pid)
        return cls(process, protocol.exited, job_object)

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

    def take_up(self, job: str, *texts: str) -> None:
        """Put `job` into the child's lines from now on, and keep these texts out of them.

        Those of the call before stay out too: pipes run late.
        """
        self._job = job
        self._redactors.append(Redactor(texts))

    def hidden(self, text: str) -> str:
        """Return `text` without what `take_up` was given."""
        for redact in self._redactors:
            text = redact(text)
        return text

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
        """End the process at once (SIGKILL) and take back everything it held. Idempotent.

        What it started ends with it, unless the process was dead already.
        """
        self._killed = True
        self._room.release()
        # Once the process is reaped, its number may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.shield(asyncio.ensure_future(self._reap()))

    async def close(self, patience: float) -> None:
        """Close the child's input, which ends it; kill it after `patience` seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._exited.wait()
        await self.kill()

    async def _reap(self) -> None:
        tasks = (self._watch, self._reader, self._logger)
        try:
            async with asyncio.timeout(_DEATH_PATIENCE_S):
                await self._exited.wait()
        except TimeoutError:
            _log.error("the process %d does not end; it may still hold the GPU", self.pid)
        # A grandchild may still hold the pipes open: don't wait for their ends for ever.
        await asyncio.wait(tasks, timeout=_REAP_PATIENCE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))
        # asyncio offers no public way to close the pipes of a process that has ended.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001

    def _finish(self, end: EngineError) -> None:
        if self._end is None:
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
            async with asyncio.timeout(_REAP_PATIENCE_S):
                await self._exited.wait()
        self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))

    async def _watch_exit(self) -> None:
        await self._exited.wait()
        # What it had written is still to be read; a copy of the pipe elsewhere never ends.
        await asyncio.wait({self._reader}, timeout=_REAP_PATIENCE_S)
        self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(4096):
            # Progress bars end their lines with a carriage return.
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                self._write_log(line)
            if len(rest) > _LINE_BYTES:
                self._write_log(rest)
                rest = b""
        self._write_log(rest)

    def _write_log(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        text = self.hidden(text)[:_LINE_LENGTH]
        level = next((level for pattern, level in _LEVELS if pattern.search(text)), logging.INFO)
        with job_context(self._job):
            _log.log(level, "%s", text)


def own_command(command: Sequence[str]) -> list[str]:
    """Return `command` with this process's id, which the child checks against its parent's."""
    return [*command, str(os.getpid())]
