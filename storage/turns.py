"""Turns at the one connection that writes: accepted work goes before new requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """A lock with two lines before it. Within each, whoever came first goes first.

    The first line must be short by its nature, since the second waits for all of it.
    """

    def __init__(self) -> None:
        self._taken = False
        self._lines: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque())

    @property
    def crowded(self) -> bool:
        """Whether anybody waits."""
        return any(self._lines)

    @asynccontextmanager
    async def taken(self, *, first: bool = False) -> AsyncGenerator[None]:
        """Hold the lock inside the block; wait in the first line or in the second."""
        await self._take(self._lines[0 if first else 1])
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, line: deque[asyncio.Future[None]]) -> None:
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # It had just come.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give the lock to the next one, without letting go of it in between."""
        for line in self._lines:
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._taken = False
