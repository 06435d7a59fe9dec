"""The durable queue: what is accepted is committed, and what is committed gets an answer."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final, TypeVar

from bot.domain.ids import new_job_id
from bot.domain.job import ImageRecord, Job, JobState, Origin
from bot.domain.request import ImageRequest
from bot.errors import JobNotFound, NotAllowed, QueueClosed
from bot.errors.disk import refused_politely
from bot.jobs import outcomes
from bot.jobs import pause as gate
from bot.jobs.admission import Submission, admit
from bot.jobs.commits import Commits
from bot.jobs.forecast import Forecast
from bot.jobs.outcomes import Recovery
from bot.jobs.pause import QueuePause
from bot.jobs.schedule import QueuePlace
from bot.jobs.tasks import unbroken
from bot.logs import job_context
from bot.rules.limits import Limits
from bot.rules.used import LimitsUsed, limits_used
from bot.words import _, mark
from storage import audit, jobs
from storage.database import Database, Transaction

log = logging.getLogger(__name__)
_RESTARTED: Final = mark(
    "the bot was restarted while jobs waited; an admin goes on with /admin resume"
)

T = TypeVar("T")


class CancelOutcome(StrEnum):
    """What a cancel did. `CANCELLING`: the job runs, and the engine was asked to stop."""

    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    ALREADY_DONE = "already_done"


class JobQueue(Commits):
    """Takes requests, hands jobs to workers in fair order, and records what became of them."""

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        model: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(database, clock=clock)
        self.model = model
        self.forecast = Forecast(database, self.feed, model=model, clock=clock)
        self.on_cancel: list[Callable[[str], None]] = []
        """Called with the id of a running job whose cancel was committed."""
        self._limits = limits
        self._held: dict[object, str] = {}
        self._closed = False

    @property
    def paused(self) -> str | None:
        """Why no job is started at present, or None."""
        if self._gate.paused is not None:
            return self._gate.paused
        return next(iter(self._held.values()), None)

    @property
    def draining(self) -> str | None:
        """Why no new job is accepted at present, or None."""
        return self._gate.draining

    async def start(self, *, pause_waiting: bool = False) -> Recovery:
        """Put the last process's jobs back, and load the pause; call it before anything else.

        With `pause_waiting` a queue that is not empty pauses until an admin resumes it.
        """

        async def recover(tx: Transaction) -> Recovery:
            recovery = await outcomes.recover(tx, self._clock())
            stored = await gate.settle(tx)
            if pause_waiting and stored.paused is None and await jobs.count_queued(tx):
                await gate.store(tx, replace(stored, paused=_RESTARTED))
            return recovery

        recovery = await self._change(recover)
        if recovery != Recovery():
            log.warning("jobs found running at start: %s", recovery)
        return recovery

    def close(self) -> None:
        """Take nothing new and start nothing new; `submit` raises `QueueClosed` from now on."""
        self._closed = True

    # What people do

    def new_job_id(self) -> str:
        """Return an id for a job whose files have to exist before it does."""
        return new_job_id(self._clock())

    async def submit(
        self, request: ImageRequest, origin: Origin, *, job_id: str | None = None
    ) -> Submission:
        """Commit a request as a queued job, with the address of its answer.

        Raises `LimitReached`, `QueueClosed` or `StorageRefused`; a `source_id` seen before raises
        nothing, charges nothing and finds its first job. Cancelling the caller does not take a job
        back.
        """
        now = self._clock()
        job_id = job_id or self.new_job_id()

        async def insert(tx: Transaction) -> Submission:
            if first := await jobs.find_source(tx, origin.source_id):
                place = (await self._places(tx)).get(first.id, QueuePlace(0, None, None))
                return Submission(first, place, repeated=True)
            if self._closed:
                raise QueueClosed(_("The bot is shutting down. Please try again in a minute."))
            self._gate.require_open()
            rate = await self.forecast.rate(tx)
            job = await admit(tx, job_id, request, origin, self._limits, rate=rate, now=now)
            return Submission(job, (await self._places(tx))[job_id], repeated=False)

        def accepted(submission: Submission) -> None:
            if not submission.repeated:
                with job_context(job_id):
                    log.info("job %s queued for user %d", job_id, origin.user_id)
                self._tell(job_id, "queued")

        with refused_politely():
            return await self._change(insert, accepted)

    async def limits_used(self, origin: Origin) -> LimitsUsed:
        """Return what the user of `origin` has used of the limits that hold there."""
        now = self._clock()
        return await self._database.read(lambda tx: limits_used(tx, self._limits, origin, now))

    async def cancel(self, job_id: str, *, by: int, moderator: bool = False) -> CancelOutcome:
        """Cancel a job for its owner or a moderator; raises `JobNotFound` or `NotAllowed`."""
        now = self._clock()

        async def cancel(tx: Transaction) -> CancelOutcome:
            job = await jobs.find(tx, job_id)
            if job is None:
                raise JobNotFound(_("There is no such job."))
            if job.user_id != by and not moderator:
                raise NotAllowed(_("Only the one who asked for this picture can cancel it."))
            if job.state.final:
                return CancelOutcome.ALREADY_DONE
            if job.user_id != by:
                await audit.record(
                    tx, now, actor_id=by, guild_id=job.guild_id, action="cancel", target=job_id
                )
            if job.state is JobState.RUNNING:
                await jobs.ask_cancel(tx, job_id, now)
                return CancelOutcome.CANCELLING
            await outcomes.end_cancelled(tx, job_id, now)
            return CancelOutcome.CANCELLED

        def told(outcome: CancelOutcome) -> None:
            log.info("job %s: cancel by %d: %s", job_id, by, outcome)
            if outcome is CancelOutcome.CANCELLED:
                self._tell(job_id, "final")
            elif outcome is CancelOutcome.CANCELLING:
                for listener in self.on_cancel:
                    listener(job_id)

        return await self._change(cancel, told)

    async def leave_guild(self, guild_id: int) -> None:
        """Cancel the jobs that wait for a server which the bot is no longer in."""
        await self.ending(lambda tx: outcomes.leave_guild(tx, guild_id, self._clock()))

    async def ending(self, fn: Callable[[Transaction], Awaitable[list[str]]]) -> list[str]:
        """Commit `fn`, which ends jobs and returns their ids, and tell of their ends."""
        return await self._change(fn, lambda job_ids: self._tell_all(job_ids, "final"))

    async def pause(self, reason: str, *, by: int, guild_id: int | None = None) -> None:
        """Start no more jobs until `resume`, also after a restart; running ones go on."""
        await self._set_gate(lambda old: replace(old, paused=reason), "pause", reason, by, guild_id)

    async def drain(self, reason: str, *, by: int, guild_id: int | None = None) -> None:
        """Accept no more jobs until `resume`, end those there are, then pause; ends a pause."""
        await self._set_gate(lambda _old: QueuePause(None, reason), "drain", reason, by, guild_id)

    async def resume(self, *, by: int, guild_id: int | None = None) -> None:
        """End the pause and the drain."""
        await self._set_gate(lambda _old: QueuePause(), "resume", None, by, guild_id)

    def hold(self, holder: object, reason: str | None) -> None:
        """Start nothing for `reason` until the same holder gives None, and each other one too.

        Unlike a pause, a restart forgets it.
        """
        if reason is not None:
            self._held[holder] = reason
        elif self._held.pop(holder, None) is None:
            return
        self._wake()

    async def _set_gate(
        self,
        changed: Callable[[QueuePause], QueuePause],
        action: str,
        reason: str | None,
        by: int,
        guild_id: int | None,
    ) -> None:
        async def set_gate(tx: Transaction) -> None:
            await gate.store(tx, changed(await gate.settle(tx)))
            await audit.record(
                tx, self._clock(), actor_id=by, guild_id=guild_id, action=action, detail=reason
            )

        await self._change(set_gate, lambda _done: log.info("%s by %d", action, by))

    # What people see

    async def job(self, job_id: str) -> Job | None:
        """Return a job, or None if there is none."""
        return await self._database.read(lambda tx: jobs.find(tx, job_id))

    async def images(self, job_id: str) -> list[ImageRecord]:
        """Return the pictures of a job in their order."""
        return await self._database.read(lambda tx: jobs.find_images(tx, job_id))

    async def place(self, job_id: str) -> QueuePlace | None:
        """Return where an open job stands; None when it is final or unknown."""
        return (await self.places()).get(job_id)

    async def places(self) -> dict[str, QueuePlace]:
        """Return where every open job stands, by id."""
        return await self._database.read(self._places)

    async def open_jobs(self, user_id: int | None = None) -> list[Job]:
        """Return the running jobs, then the queued ones in the order in which they will run."""

        async def find(tx: Transaction) -> list[Job]:
            found = {job.id: job for job in await jobs.find_open(tx, user_id)}
            return [found[job.id] for job in await self.forecast.order(tx) if job.id in found]

        return await self._database.read(find)

    # What a worker does

    async def get(self) -> Job:
        """Start the next job in fair order; wait while there is none, or the queue pauses.

        Cancelling the caller loses nothing: a job that was just started goes back.
        """
        while True:
            changed = self._changed
            claim = asyncio.ensure_future(self._claim())
            try:
                job = await asyncio.shield(claim)
            except asyncio.CancelledError:
                await unbroken(self._unclaim(claim))
                raise
            if job:
                return job
            await changed.wait()

    def refresh(self) -> None:
        """Look at the queue anew: what decides over it from outside has changed."""
        self._wake()

    # Within

    async def _claim(self) -> Job | None:
        async def claim(tx: Transaction) -> tuple[Job | None, list[str], list[str]]:
            if self.paused is not None or self._closed:
                return None, [], []
            dropped = await outcomes.drop_forbidden(tx, self._clock())
            job = await self.forecast.claim(tx)
            return job, await jobs.queued_ids(tx) if job else [], dropped

        def told(result: tuple[Job | None, list[str], list[str]]) -> None:
            self._tell_all(result[2], "final")
            if job := result[0]:
                self._tell(job.id, "running")
                self._tell_all(result[1], "moved")

        return (await self._database.write(claim, then=told))[0]

    async def _unclaim(self, claim: asyncio.Future[Job | None]) -> None:
        try:
            job = await claim
        except sqlite3.Error:
            return  # Nothing was claimed.
        if job:
            await self.give_back_surely(job)

    async def _places(self, tx: Transaction) -> dict[str, QueuePlace]:
        return await self.forecast.places(tx, paused=self.paused is not None)
