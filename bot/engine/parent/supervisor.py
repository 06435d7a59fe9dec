"""The supervisor of an engine child: starts one at a time, counts failures, replaces and ends it.

It knows nothing of models and jobs: loading.py and conversation.py talk to the child.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from bot.engine.faults import HARMLESS
from bot.engine.frames import FrameError
from bot.engine.options import Backoff
from bot.engine.parent.link import ChildLink
from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind

_CLOSE_PATIENCE_S: Final = 2.0


class Supervisor:
    """The life of an engine's child, and the engine's state with it.

    `connect` starts a child; it raises `EngineError` or `OSError`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ChildLink]],
        *,
        backoff: Backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._backoff = backoff
        self._clock = clock
        self.link: ChildLink | None = None
        """The child, while there is one."""
        self.phase = EngineState.STOPPED
        self._failures = 0
        self._failed_at = 0.0
        self._closed = False

    @property
    def state(self) -> EngineState:
        """What the engine is doing; a child that died while idle counts as stopped."""
        if self.phase is EngineState.IDLE and (self.link is None or self.link.inbox.ended):
            return EngineState.STOPPED
        return self.phase

    def check_open(self) -> None:
        """Raise `EngineError` (`DIED`) once the engine is closed."""
        if self._closed:
            self.phase = EngineState.STOPPED
            raise EngineError(EngineErrorKind.DIED, "the engine is closed")

    def held(self) -> ChildLink:
        """Return the child that there is; raise `EngineError` (`DIED`) once closed."""
        self.check_open()
        assert self.link is not None
        return self.link

    def wait_s(self) -> float:
        """Return the seconds until a child may be started again; 0 or less: at once."""
        return self._failed_at + self._backoff.delay(self._failures) - self._clock()

    async def start(self) -> ChildLink:
        """Start a child and return it; raise `EngineError` where that fails, or once closed."""
        self.check_open()
        self.phase = EngineState.STARTING
        try:
            link = await self._connect()
        except OSError as error:
            self._note_failure()
            raise EngineError(EngineErrorKind.LOAD_FAILED, f"cannot start: {error}") from error
        except EngineError:
            self._note_failure()
            raise
        if self._closed:
            await link.kill()
            self.check_open()
        self.link = link
        return link

    def succeed(self) -> None:
        """Note that a job is done: earlier failures no longer count."""
        self._failures = 0
        self.phase = EngineState.IDLE

    async def fail(self, link: ChildLink) -> None:
        """Kill the child and count its failure."""
        self._note_failure()
        await self.drop(link)

    async def drop(self, link: ChildLink) -> None:
        """Kill the child, which is not to blame."""
        if self.link is link:
            self.link = None
        self.phase = EngineState.STOPPED
        await link.kill()

    @contextlib.asynccontextmanager
    async def guard(self, link: ChildLink) -> AsyncGenerator[None]:
        """Kill the child on everything that makes it unusable.

        Raises `EngineError`: `GARBLED` in the place of `FrameError` and `ValueError`.
        """
        try:
            yield
        except (FrameError, ValueError) as error:
            await self.fail(link)
            raise EngineError(EngineErrorKind.GARBLED, str(error)) from error
        except EngineError as error:
            if error.kind not in HARMLESS:
                await self.fail(link)
            raise

    async def stop(self) -> None:
        """Have the child end; another one may be started."""
        self.phase = EngineState.STOPPED
        if (link := self.link) is not None:
            try:
                await link.close(_CLOSE_PATIENCE_S)
            finally:  # Until then `close` has to find it.
                if self.link is link:
                    self.link = None

    async def close(self) -> None:
        """Have the child end for good. Idempotent."""
        self._closed = True
        link, self.link = self.link, None
        self.phase = EngineState.STOPPED
        if link is not None:
            await link.close(_CLOSE_PATIENCE_S)

    def _note_failure(self) -> None:
        self._failures += 1
        self._failed_at = self._clock()
        self.phase = EngineState.STOPPED
