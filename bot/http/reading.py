"""What clients sent, handed to their connections one by one, after people in Discord.

Parsing a request and beginning on it takes about a millisecond of the loop. If all connections
that have something to read did so in one turn of the loop, an acknowledgement in Discord, which
takes a dozen turns, would wait for all of them a dozen times.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from bot.machine.precedence import Precedence

log = logging.getLogger(__name__)


class Reading:
    """The order in which what was received is read: as it came, one piece in a turn of the loop."""

    def __init__(self, first: Precedence) -> None:
        self._first = first
        self._waiting: deque[Callable[[], None]] = deque()
        self._news = asyncio.Event()

    def put(self, read: Callable[[], None]) -> None:
        """Have `read` called when its turn has come; it should not raise."""
        self._waiting.append(read)
        self._news.set()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            await self._first.give_way()
            try:
                self._waiting.popleft()()
            except Exception:  # The door stays open for the others.
                log.exception("a request could not be read")
            # Whatever came of it, and whatever else is ready, gets its turn.
            await asyncio.sleep(0)
