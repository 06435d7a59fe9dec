"""Claims: the job whose turn it is on the free engines is started for the worker that asks."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection

from bot.domain.job import Job
from bot.jobs import outcomes
from bot.jobs.commits import Commits
from bot.jobs.control import QueueControl
from bot.jobs.feed import PLACES_MOVED
from bot.jobs.forecast import Forecast
from bot.jobs.tasks import unbroken
from storage import jobs
from storage.database import Database, Transaction


class Claims:
    """Starts jobs, one for each call, while the queue is neither paused nor closed.

    Those of models that are not `offered` (None: any is) are ended instead.
    """

    def __init__(
        self,
        database: Database,
        commits: Commits,
        control: QueueControl,
        forecast: Forecast,
        *,
        offered: Collection[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._offered = offered
        self._database = database
        self._commits = commits
        self._control = control
        self._forecast = forecast
        self._clock = clock

    async def next(self) -> Job:
        """Start the next job in fair order; wait while there is none, or the queue pauses.

        Cancelling the caller loses nothing: a job that was just started goes back.
        """
        while True:
            changed = self._commits.changed
            claim = asyncio.ensure_future(self.claim())
            try:
                job = await asyncio.shield(claim)
            except asyncio.CancelledError:
                await unbroken(self._unclaim(claim))
                raise
            if job:
                return job
            await changed.wait()

    async def claim(self) -> Job | None:
        """Start the next job in fair order; None if there is none, or none is to be started."""

        async def claim(tx: Transaction) -> tuple[Job | None, list[str]]:
            if self._control.paused is not None or self._control.closed:
                return None, []
            now = self._clock()
            dropped: list[str] = []
            turn = await self._forecast.next(tx)
            if turn is not None and await outcomes.is_forbidden(tx, turn.job.id, now):
                # Where one has to go, others have to as well; looking at all is seldom needed.
                dropped = await outcomes.drop_forbidden(tx, now)
                turn = await self._forecast.next(tx)
            if turn is not None and not (self._offered is None or turn.job.model in self._offered):
                # The bot was started anew with other models.
                dropped += await outcomes.drop_unoffered(tx, now, self._offered)
                turn = await self._forecast.next(tx)
            if turn is None:
                return None, dropped
            if turn.passed:
                await jobs.pass_over(tx, turn.passed, turn.seconds)
            return await jobs.claim(tx, turn.job.id, now), dropped

        def told(result: tuple[Job | None, list[str]]) -> None:
            self._commits.tell_all(result[1], "final")
            if job := result[0]:
                self._commits.tell(job.id, "running")
            if any(result):
                self._commits.feed.publish(PLACES_MOVED)

        return (await self._database.write(claim, then=told, first=True))[0]

    async def _unclaim(self, claim: asyncio.Future[Job | None]) -> None:
        try:
            job = await claim
        except sqlite3.Error:
            return  # Nothing was claimed.
        if job:
            await self._commits.give_back_surely(job)
