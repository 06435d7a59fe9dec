"""The pipe to an engine child on this machine: its frames, its log lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Final, Self

from typing_extensions import override

from bot.engine.frames import Frame, FrameError, encode, read_frame
from bot.engine.parent.child_process import ChildProcess
from bot.engine.parent.inbox import Inbox
from bot.engine.parent.link import ChildLink
from bot.errors import EngineError, EngineErrorKind

log = logging.getLogger("bot.engine.child")
_UNREAD_FRAMES: Final = 32
_REAP_PATIENCE_S: Final = 1.0
_DEATH_PATIENCE_S: Final = 10.0


class PipeLink(ChildLink):
    """A started child process and the pipes to it.

    Frames wait here until they are received; past a few dozen the child is made to wait, so a child
    that floods the pipe fills no memory.
    """

    def __init__(self, process: ChildProcess) -> None:
        self._room = asyncio.Semaphore(_UNREAD_FRAMES)
        super().__init__(Inbox(taken=self._room.release))
        self._process = process
        # The child outlives the job that it was started for, whose log context is not its own.
        alone = Context()
        self._reader = asyncio.create_task(self._read_frames(), name="engine-frames", context=alone)
        self._logger = asyncio.create_task(
            self.log.drain(process.stderr), name="engine-log", context=alone
        )
        self._watch = asyncio.create_task(self._watch_exit(), name="engine-exit", context=alone)
        self._killed = False

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start `command`; raise `OSError` where it cannot be started."""
        return cls(await ChildProcess.start(command, environment))

    @property
    @override
    def pid(self) -> int:
        return self._process.pid

    @override
    async def send(self, kind: str, /, **fields: Any) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(encode(Frame({"type": kind, **fields})))
            await self._process.stdin.drain()

    @override
    async def kill(self) -> None:
        """End the process at once (SIGKILL) and take back everything it held. Idempotent.

        What it started ends with it, unless the process was dead already.
        """
        self._killed = True
        self._room.release()
        self._process.kill()
        await asyncio.shield(asyncio.ensure_future(self._reap()))

    @override
    async def close(self, patience: float) -> None:
        """Close the child's input, which ends it; kill it after `patience` seconds."""
        self._process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._process.exited.wait()
        finally:
            await self.kill()

    async def _reap(self) -> None:
        tasks = (self._watch, self._reader, self._logger)
        try:
            async with asyncio.timeout(_DEATH_PATIENCE_S):
                await self._process.exited.wait()
        except TimeoutError:
            log.error("the process %d does not end; it may still hold the GPU", self.pid)
        # A grandchild may still hold the pipes open: don't wait forever for their ends.
        await asyncio.wait(tasks, timeout=_REAP_PATIENCE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._finish()
        self._process.close_pipes()

    async def _read_frames(self) -> None:
        try:
            while (frame := await read_frame(self._process.stdout)) is not None:
                self.inbox.note_life()
                if frame.type != "heartbeat" and not self._killed:
                    await self._room.acquire()
                    self.inbox.put(frame)
        except FrameError as error:
            self.inbox.finish(EngineError(EngineErrorKind.GARBLED, str(error)))
            # asyncio sees the process's end only when its pipes have been read to theirs.
            while await self._process.stdout.read(2**16):
                pass
            return
        # The pipe's end comes a moment before the exit status.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_PATIENCE_S):
                await self._process.exited.wait()
        self._finish()

    async def _watch_exit(self) -> None:
        await self._process.exited.wait()
        # What it had written is still to be read; a copy of the pipe elsewhere never ends.
        await asyncio.wait({self._reader}, timeout=_REAP_PATIENCE_S)
        self._finish()

    def _finish(self) -> None:
        self.inbox.finish(EngineError(EngineErrorKind.DIED, self._process.obituary()))


def own_command(command: Sequence[str]) -> list[str]:
    """Return `command` with this process's id, which the child checks against its parent's."""
    return [*command, str(os.getpid())]
