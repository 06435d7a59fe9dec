"""The dispatcher: the queue's next job goes to the best of the engines that are free."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from bot.domain.job import Job
from bot.fleet.engine_slot import EngineSlot
from bot.fleet.roster import Roster
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import unbroken, until_stored

log = logging.getLogger(__name__)


class Dispatcher:
    """Claims a job only while an engine is free, and hands it out."""

    def __init__(self, queue: JobQueue, roster: Roster, retry_s: float) -> None:
        self._queue = queue
        self._roster = roster
        self._retry_s = retry_s

    async def run(self) -> None:
        """Hand jobs out until cancelled; one that is being claimed then goes back."""
        while True:
            while not self._roster.free():
                await self._roster.move()
            job = await self._claimed()
            free = self._roster.free()
            if job is None:
                continue
            if free:
                self._best(free, job).hand(job)
            else:  # The last free engine was paused, or left, while the job was being claimed.
                await unbroken(self._queue.commits.give_back_surely(job))

    async def _claimed(self) -> Job | None:
        """Return the next job; None when no engine is free any more, or none could be claimed."""
        claim = asyncio.ensure_future(until_stored(self._queue.get, self._retry_s))
        try:
            while not claim.done() and self._roster.free():
                moved = asyncio.ensure_future(self._roster.move())
                try:
                    await asyncio.wait({claim, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
        except asyncio.CancelledError:
            claim.cancel()
            await asyncio.wait({claim})
            if not claim.cancelled() and claim.exception() is None:
                await unbroken(self._queue.commits.give_back_surely(claim.result()))
            raise
        # A job that is claimed at this very moment goes back by itself.
        if not claim.done():
            claim.cancel()
            await asyncio.wait({claim})
        if claim.cancelled():
            return None
        if error := claim.exception():
            log.error("no job could be claimed", exc_info=error)
            await asyncio.sleep(self._retry_s)
            return None
        return claim.result()

    def _best(self, free: list[EngineSlot], job: Job) -> EngineSlot:
        model = job.model or self._queue.model
        copies = Counter(slot.loaded for slot in self._roster.slots.values())
        return min(free, key=lambda slot: slot.suits(job, model, copies))
