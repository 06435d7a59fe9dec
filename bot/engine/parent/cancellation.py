"""Cancellation of an engine's job: it was asked for, and limits how long the child may go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable


class Cancellation:
    """Whether the job in hand is to end. One object serves an engine's jobs, one after another.

    `patience` is how many seconds a cancelled job may go on; `clock` tells seconds, monotonically.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._event = asyncio.Event()
        self._by: float | None = None
        self._sending: asyncio.Timeout | None = None

    @property
    def asked(self) -> bool:
        """Whether the job in hand is to end."""
        return self._event.is_set()

    def reset(self) -> None:
        """Forget what was asked: another job begins, or this one is over."""
        self._event.clear()
        self._by = None

    def ask(self) -> None:
        """Ask for the end of the job; from now on no limit exceeds what is left of the patience."""
        self._event.set()
        self._by = self._clock() + self._patience
        if self._sending is not None:  # The child has not heard of the job yet.
            by = asyncio.get_running_loop().time() + self._patience
            self._sending.reschedule(min(by, self._sending.when() or by))

    def interrupt(self) -> None:
        """Let whoever is in `pause` go on; limits stay as they are."""
        self._event.set()

    def shortened(self, limit: float) -> float:
        """Return `limit` seconds, or how many are left to a job that is to end."""
        if self._by is None:
            return limit
        return max(0.0, min(limit, self._by - self._clock()))

    @contextlib.asynccontextmanager
    async def sending(self, limit: float) -> AsyncGenerator[None]:
        """Raise `TimeoutError` after `limit` seconds of the block, or earlier, once asked."""
        try:
            async with asyncio.timeout(limit) as self._sending:
                yield
        finally:
            self._sending = None

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the job is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
