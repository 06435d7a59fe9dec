"""How many pictures are in this process's memory at once, in all and for each user.

Whoever has a picture fetched (from Discord or from the disk) holds a slot from before its first
byte until it is stored or read through: a picture may be as large as `attachments.BYTES_LIMIT`, and
people's clicks come faster than files do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final, Self

from bot.errors import LimitReached
from bot.words import _

AT_ONCE: Final = 4
"""Pictures in memory at once; each user has one of them."""
MOST_OF_A_USER: Final = 5
"""Pictures that one user may have fetched or waiting to be; as many as open forms are kept for."""
MOST: Final = 100
"""Pictures fetched or waiting to be, of all users."""


class FetchSlots:
    """Gives out the slots, each user's in the order in which they were reserved."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._turns: dict[int, asyncio.Lock] = {}
        self._reserved: Counter[int] = Counter()

    def reserve(self, user_id: int) -> FetchSlot:
        """Return a slot to hold with `async with`, or to give back with `release`.

        Raises `LimitReached` at once where the user, or all users together, have too many.
        """
        if self._reserved[user_id] >= MOST_OF_A_USER:
            raise LimitReached(
                _("Several pictures are still being fetched for you. Please try again in a moment.")
            )
        if self._reserved.total() >= MOST:
            raise LimitReached(
                _("Many pictures are being fetched just now. Please try again in a moment.")
            )
        self._reserved[user_id] += 1
        return FetchSlot(self, user_id)

    async def take(self, user_id: int) -> None:
        """Wait for the user's turn, then for a free slot."""
        turn = self._turns.setdefault(user_id, asyncio.Lock())
        await turn.acquire()
        try:
            await self._free.acquire()
        except BaseException:
            turn.release()
            raise

    def put_back(self, user_id: int) -> None:
        """End what `take` began."""
        self._free.release()
        self._turns[user_id].release()

    def forget(self, user_id: int) -> None:
        """End what `reserve` began."""
        self._reserved[user_id] -= 1
        if not self._reserved[user_id]:
            del self._reserved[user_id]
            self._turns.pop(user_id, None)


class FetchSlot:
    """One slot. `release` may be called at any time and more than once."""

    def __init__(self, slots: FetchSlots, user_id: int) -> None:
        self._slots = slots
        self._user_id = user_id
        self._reserved = True

    def release(self) -> None:
        """Give back a slot, whether it was ever held or not."""
        if self._reserved:
            self._reserved = False
            self._slots.forget(self._user_id)

    async def __aenter__(self) -> Self:
        try:
            await self._slots.take(self._user_id)
        except BaseException:
            self.release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slots.put_back(self._user_id)
        self.release()
