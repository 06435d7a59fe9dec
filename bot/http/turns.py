"""Turns: how many requests are worked on at once, and that people in Discord go first."""

from __future__ import annotations

import asyncio
from typing import Final

from bot.http.errors import Problem
from bot.machine.precedence import Precedence

AT_ONCE: Final = 4
"""Requests that are worked on at the same time: more would take longer each, and so would all else
in the loop. Those that wait for a picture, for room or for their client are not among them."""


class RequestTurns:
    """The places of the requests that are worked on; who comes first gets one first."""

    def __init__(self, first: Precedence, closing: asyncio.Event) -> None:
        self._first = first
        self._closing = closing
        self._places = asyncio.Semaphore(AT_ONCE)

    async def take(self) -> None:
        """Wait for a place, and let acknowledgements in Discord pass.

        Raises `Problem` once the door closes: then those who wait are told so one after the other.
        """
        await self._places.acquire()
        try:
            await self._first.give_way()
        except BaseException:
            self.give()
            raise
        if self._closing.is_set():
            self.give()
            raise Problem(503, "The bot stops; try again soon.", headers={"Retry-After": "5"})

    def give(self) -> None:
        """Give a place that was taken to the next one."""
        self._places.release()


class RequestTurn:
    """The turn of one request: from when all of it has come until it is answered, or waits."""

    def __init__(self, turns: RequestTurns) -> None:
        self._turns = turns
        self._taken = False
        self._over = False

    async def begin(self) -> None:
        """Wait for a place, unless there was one before."""
        if self._taken or self._over:
            return
        await self._turns.take()
        self._taken = True

    def end(self) -> None:
        """Give the place to the next one. Idempotent."""
        self._over = True
        if self._taken:
            self._taken = False
            self._turns.give()
