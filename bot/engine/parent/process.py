"""The engine process as the bot sees it: a child that is started, fed, watched and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.cancellation import Cancellation
from bot.engine.parent.conversation import BrokenBefore, Conversation
from bot.engine.parent.environment import child_environment
from bot.engine.parent.link import ChildLink
from bot.engine.parent.loading import ModelLoader
from bot.engine.parent.pipe import PipeLink, own_command
from bot.engine.parent.supervisor import Supervisor
from bot.engine.protocol import EngineState, Event, Loaded, Request

_COMMAND = (sys.executable, "-m", "bot.engine.child")


class EngineProcess:
    """An `Engine` in its own child process; imports no torch.

    The model is loaded on the first job. A child that dies, falls silent or breaks the protocol is
    killed and replaced: at once the first time, after ever longer waits when it happens again. An
    ordinary exception in the pipeline, or a lack of memory, leaves the child alive.

    `connect` starts the child in another way, such as on another machine; it raises `EngineError`
    or `OSError`. `environment` is added to what the child gets of this process's, and overrides it.
    """

    def __init__(
        self,
        model: str,
        *,
        options: EngineOptions,
        environment: Mapping[str, str] | None = None,
        limits: SilenceLimits | None = None,
        backoff: Backoff | None = None,
        command: Sequence[str] | None = None,
        connect: Callable[[], Awaitable[ChildLink]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._environment = dict(environment or {})
        self._limits = limits or SilenceLimits()
        self._command = own_command(_COMMAND if command is None else command)
        self._lock = asyncio.Lock()
        self._job: str | None = None
        self._cancellation = Cancellation(self._limits.cancel, clock)
        self._supervisor = Supervisor(
            connect or self._spawn, backoff=backoff or Backoff(), clock=clock
        )
        self._loader = ModelLoader(
            self._supervisor, model, options, self._limits, self._cancellation
        )

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._model

    @property
    def state(self) -> EngineState:
        """See `Engine`."""
        return self._supervisor.state

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        link = self._supervisor.link
        return None if link is None else link.pid

    async def load(self) -> None:
        """See `Engine`."""
        async with self._lock, aclosing(self._loader.ready()) as events:
            async for _ in events:
                pass

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """See `Engine`."""
        async with self._lock:
            self._job = request.job_id
            self._cancellation.reset()
            try:
                while True:
                    fresh = False
                    async with aclosing(self._loader.ready(request.model)) as events:
                        async for event in events:
                            fresh = fresh or isinstance(event, Loaded)
                            yield event
                    talk = Conversation(self._supervisor, request, self._limits, self._cancellation)
                    try:
                        async with aclosing(talk.events()) as events:
                            async for event in events:
                                yield event
                    except BrokenBefore as error:
                        # A new child that breaks before its first job would do so again.
                        if fresh:
                            raise error.cause from None
                    else:
                        return
            finally:
                self._job = None
                self._cancellation.reset()

    async def cancel(self, job_id: str) -> None:
        """See `Engine`. A job that still waits for the model ends without it."""
        if job_id != self._job or self._cancellation.asked:
            return
        self._cancellation.ask()
        link = self._supervisor.link
        if link is not None:
            link.inbox.wake()
            if self._supervisor.phase is EngineState.BUSY:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.cancel):
                        await link.send("cancel", job=job_id)

    async def unload(self) -> bool:
        """See `Engine`. The child ends: a process that is gone holds no memory at all."""
        if self._lock.locked():
            return False
        async with self._lock:
            await self._supervisor.stop()
        return True

    async def close(self) -> None:
        """See `Engine`."""
        self._cancellation.interrupt()  # for whoever waits out a restart's delay
        await self._supervisor.close()

    async def _spawn(self) -> ChildLink:
        return await PipeLink.start(self._command, child_environment() | self._environment)
