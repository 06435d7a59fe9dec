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

from bot.engine.frames import HEADER_LIMIT, Frame, FrameError, encode, read_frame
from bot.engine.parent.child_process import ChildProcess
from bot.engine.parent.inbox import Inbox
from bot.engine.parent.link import ChildLink
from bot.engine.parent.pace import Pace
from bot.errors import EngineError, EngineErrorKind

log = logging.getLogger("bot.engine.child")
_UNREAD: Final = 256
"""How much the frames may weigh that nobody has read: 8 MiB of tails, or 512 KiB of JSON."""
_FRAMES_A_SECOND, _FRAMES_AT_ONCE = 250.0, 500
_REAP_PATIENCE_S: Final = 1.0
_DEATH_PATIENCE_S: Final = 10.0


class PipeLink(ChildLink):
    """A started child process and the pipes to it.

    Frames wait here until they are received; when they are many or large the child is made to
    wait, and also when they come faster than any drawing does. So a child that floods the pipe
    fills no memory and takes little of the loop's time.
    """

    def __init__(self, process: ChildProcess, header_limit: int = HEADER_LIMIT) -> None:
        super().__init__(Inbox(taken=self._make_room))
        self._process = process
        self._header_limit = header_limit
        self._unread = 0
        self._room = asyncio.Event()
        self._pace = Pace(_FRAMES_A_SECOND, _FRAMES_AT_ONCE)
        # The child outlives the job that it was started for, whose log context is not its own.
        alone = Context()
        self._reader = asyncio.create_task(self._read_frames(), name="engine-frames", context=alone)
        self._logger = asyncio.create_task(
            self.log.drain(process.stderr), name="engine-log", context=alone
        )
        self._watch = asyncio.create_task(self._watch_exit(), name="engine-exit", context=alone)
        self._killed = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        header_limit: int = HEADER_LIMIT,
    ) -> Self:
        """Start `command`; raise `OSError` where it cannot be started.

        `header_limit` is the most bytes of JSON in a frame of its.
        """
        return cls(await ChildProcess.start(command, environment), header_limit)

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
        self._room.set()
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
            while frame := await read_frame(self._process.stdout, self._header_limit):
                self.inbox.note_life()
                if frame.type != "heartbeat" and not self._killed:
                    await self._put(frame)
                if not self._pace.take() and not self._killed:
                    await asyncio.sleep(self._pace.wait_s())
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

    async def _put(self, frame: Frame) -> None:
        while self._unread + frame.weight > _UNREAD and not self._killed:
            self._room.clear()
            await self._room.wait()
        self._unread += frame.weight
        self.inbox.put(frame)

    def _make_room(self, frame: Frame) -> None:
        self._unread -= frame.weight
        self._room.set()

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
