"""One engine child: its process, its frames, its log lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Final, Self

from typing_extensions import override

from bot.engine.frames import Frame, FrameError, encode, read_frame
from bot.engine.lifeline import JobObject
from bot.engine.parent.link import ChildLink
from bot.errors import EngineError, EngineErrorKind

log = logging.getLogger("bot.engine.child")
_UNREAD_FRAMES: Final = 32
_LINE_BYTES: Final = 2**16
_REAP_PATIENCE_S: Final = 1.0
_DEATH_PATIENCE_S: Final = 10.0


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


class PipeLink(ChildLink):
    """A started child process and the pipes to it.

    Frames wait here until `receive` takes them; past a few dozen the child is made to wait, so a
    child that floods the pipe fills no memory.
    """

    def __init__(self, process: Process, exited: asyncio.Event, job_object: JobObject) -> None:
        super().__init__()
        self._process = process
        self._exited = exited
        self._job_object = job_object
        self._room = asyncio.Semaphore(_UNREAD_FRAMES)
        # The child outlives the job that it was started for, whose log context is not its own.
        alone = Context()
        self._reader = asyncio.create_task(self._read_frames(), name="engine-frames", context=alone)
        self._logger = asyncio.create_task(self._read_log(), name="engine-log", context=alone)
        self._watch = asyncio.create_task(self._watch_exit(), name="engine-exit", context=alone)
        self._killed = False

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
    @override
    def pid(self) -> int:
        return self._process.pid

    @override
    async def send(self, kind: str, /, **fields: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(encode(Frame({"type": kind, **fields})))
            await self._process.stdin.drain()

    @override
    def _taken(self) -> None:
        self._room.release()

    @override
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

    @override
    async def close(self, patience: float) -> None:
        """Close the child's input, which ends it; kill it after `patience` seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._exited.wait()
        finally:
            await self.kill()

    async def _reap(self) -> None:
        tasks = (self._watch, self._reader, self._logger)
        try:
            async with asyncio.timeout(_DEATH_PATIENCE_S):
                await self._exited.wait()
        except TimeoutError:
            log.error("the process %d does not end; it may still hold the GPU", self.pid)
        # A grandchild may still hold the pipes open: don't wait for their ends for ever.
        await asyncio.wait(tasks, timeout=_REAP_PATIENCE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._finish(EngineError(EngineErrorKind.DIED, self._obituary()))
        # asyncio offers no public way to close the pipes of a process that has ended.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001

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
                self._write_log(line.decode("utf-8", "replace"))
            if len(rest) > _LINE_BYTES:
                self._write_log(rest.decode("utf-8", "replace"))
                rest = b""
        self._write_log(rest.decode("utf-8", "replace"))


def own_command(command: Sequence[str]) -> list[str]:
    """Return `command` with this process's id, which the child checks against its parent's."""
    return [*command, str(os.getpid())]
