"""Second tries: a job that one engine failed or refused is left to the others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from bot.domain.job import Job, JobState
from bot.fleet.engine_slot import EngineSlot
from bot.fleet.roster import Roster
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import RETRY_LIMIT_S

_REFUSALS: Final = 100


class SecondTries:
    """Keeps an engine back from a job that it failed, and remembers who refused which job."""

    def __init__(self, queue: JobQueue, roster: Roster, retry_s: float) -> None:
        self._queue = queue
        self._roster = roster
        self._retry_s = retry_s
        # Which engines refused a job, for as long as it is not known what became of it.
        self._refusals: OrderedDict[str, set[EngineSlot]] = OrderedDict()

    async def stand_back(self, slot: EngineSlot) -> None:
        """Have an engine wait while the job that it failed is still there for others to take."""
        if slot.worker.left is not None and len(self._roster.slots) > 1:
            slot.standing_back = True
            try:
                if slot.worker.crashes:
                    pause_s = self._retry_s * 2**slot.worker.crashes
                    await asyncio.sleep(min(pause_s, RETRY_LIMIT_S))
                await self._until_taken(slot.worker.left)
            finally:
                slot.standing_back = False
        slot.worker.left = None

    async def _until_taken(self, job_id: str) -> None:
        """Wait until a job has left the queue, or no engine is there that could take it."""
        while any(slot.able for slot in self._roster.slots.values()):
            changed = self._queue.commits.changed
            job = await self._queue.job(job_id)
            if job is None or job.state is not JobState.QUEUED:
                return
            with suppress(TimeoutError):
                # Not every pause of an engine is told.
                async with asyncio.timeout(RETRY_LIMIT_S):
                    await changed.wait()

    def elsewhere(self, slot: EngineSlot, job: Job) -> bool:
        """Note that an engine refused a job; return whether there is one that did not."""
        refused = self._refusals.setdefault(job.id, set())
        refused.add(slot)
        if any(other.able and other not in refused for other in self._roster.slots.values()):
            while len(self._refusals) > _REFUSALS:
                self._refusals.popitem(last=False)
            return True
        del self._refusals[job.id]
        return False
