"""Standing: where every open job is, worked out once for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from bot.jobs.forecast import Forecast, Observed, OpenQueue
from bot.jobs.outlook import QueuePlace
from storage.database import Database, Transaction

log = logging.getLogger(__name__)

# Working a long queue out takes a noticeable part of a core. It may have a fifth of the time.
_REST: Final = 4.0
# Shorter queues cost less than a thread's hand-over, and let the loop go on soon enough.
_LONG: Final = 1000


class Standing:
    """Works out the order and the places of the open jobs, for many askers at once.

    However many ask: what was worked out rests for four times as long as it took.
    """

    def __init__(self, database: Database, forecast: Forecast) -> None:
        self._database = database
        self._forecast = forecast
        self._working = asyncio.Lock()
        self._next: asyncio.Task[OpenQueue] | None = None
        self._rests_until = 0.0
        """In the loop's own seconds."""

    async def now(self) -> OpenQueue:
        """Return how things stand; what was committed before the call is in it."""
        if self._next is None:
            self._next = asyncio.create_task(self._work(), name="standing")
            # Whoever asked may be gone by then.
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._next)

    async def place(self, job_id: str, within_s: float) -> QueuePlace | None:
        """Return a job's place; None if it has none, or it is not known within some seconds.

        Whatever goes wrong is logged: the job is committed, and its user is to be told that.
        """
        try:
            async with asyncio.timeout(within_s):
                return (await self.now()).places.get(job_id)
        except TimeoutError:
            return None
        except Exception:
            log.exception("job %s: its place could not be worked out", job_id)
            return None

    async def _work(self) -> OpenQueue:
        loop = asyncio.get_running_loop()
        async with self._working:
            if (rest_s := self._rests_until - loop.time()) > 0:
                await asyncio.sleep(rest_s)
            # What is committed from here on is for the next one.
            self._next = None
            began = loop.time()

            async def look(tx: Transaction) -> Observed:
                nonlocal began
                began = loop.time()  # The wait for a connection was no work.
                return await self._forecast.look(tx)

            observed = await self._database.read(look)
            if observed.size < _LONG:
                found = observed.worked_out()
            else:
                found = await asyncio.to_thread(observed.worked_out)
            ended = loop.time()
            self._rests_until = ended + (ended - began) * _REST
        return found
