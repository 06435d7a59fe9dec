"""The roster: which engines are there, and the event of one coming, going or moving."""

from __future__ import annotations

import asyncio

from bot.fleet.engine_slot import EngineSlot
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import JobQueue


class Roster:
    """The engines of one bot by name, in the order in which they came."""

    def __init__(self, queue: JobQueue) -> None:
        self.slots: dict[str, EngineSlot] = {}
        self._queue = queue
        self._moved = asyncio.Event()

    def free(self) -> list[EngineSlot]:
        """Return the engines that wait for a job."""
        return [slot for slot in self.slots.values() if slot.free]

    def outlooks(self) -> list[EngineOutlook]:
        """Return the engines as the estimates see them."""
        alone = len(self.slots) == 1
        return [slot.outlook(alone=alone) for slot in self.slots.values()]

    async def move(self) -> None:
        """Wait until an engine comes, goes, becomes free or is paused."""
        await self._moved.wait()

    def tell(self) -> None:
        """Wake whoever waits for a change of the engines; each waits for the next one."""
        self._moved.set()
        self._moved = asyncio.Event()
        self._queue.commits.wake()
