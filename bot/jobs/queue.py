"""The durable queue: what is accepted is committed, and what is committed gets an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import StrEnum

from bot.domain.ids import new_job_id
from bot.domain.job import ImageRecord, Job, JobState, Origin
from bot.domain.request import ImageRequest
from bot.errors import JobNotFound, NotAllowed
from bot.errors.disk import refused_politely
from bot.jobs import outcomes, pause
from bot.jobs.admission import (
    Admission,
    PromptVerdict,
    RulesDiffer,
    Submission,
    admit,
    examine,
)
from bot.jobs.claims import Claims
from bot.jobs.commits import Commits
from bot.jobs.control import QueueControl
from bot.jobs.forecast import Forecast
from bot.jobs.offered_models import OfferedModels
from bot.jobs.outcomes import Recovery
from bot.jobs.outlook import QueuePlace
from bot.jobs.precheck import Precheck
from bot.jobs.standing import Standing
from bot.logs import job_context
from bot.rules.limits import Limits
from bot.rules.refusals import ShuttingDown
from bot.rules.used import LimitsUsed, limits_used
from bot.words import _
from storage import audit, jobs, texts
from storage.clock import put_stamps_right
from storage.database import Database, Transaction

log = logging.getLogger(__name__)


class CancelOutcome(StrEnum):
    """What a cancel did. `CANCELLING`: the job runs, and the engine was asked to stop."""

    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    ALREADY_DONE = "already_done"


class JobQueue:
    """Takes requests, hands jobs to workers in fair order, and cancels them.

    `model` is the configured one; jobs of models that are not among `models` are not begun, where
    any are named. Its parts: `commits` records how attempts end, `control` pauses and holds the
    queue, `forecast` knows order and waiting times, `precheck` what would be refused anyway.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        model: str,
        models: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        commits: Commits | None = None,
    ) -> None:
        self.model = model
        self.models = OfferedModels(tuple(dict.fromkeys((model, *models))))
        self.commits = commits or Commits(database, clock=clock)
        self.feed = self.commits.feed
        self.control = QueueControl(self.commits, clock=clock)
        self.forecast = Forecast(database, self.feed, self.control, model=model, clock=clock)
        self.standing = Standing(database, self.forecast)
        self.precheck = Precheck(database, limits, self.commits, self.control, clock=clock)
        self.claims = Claims(
            database,
            self.commits,
            self.control,
            self.forecast,
            offered=self.models.names if models else None,
            clock=clock,
        )
        self.on_cancel: list[Callable[[str], None]] = []
        """Called with the id of a running job whose cancel was committed."""
        self._database = database
        self._limits = limits
        self._clock = clock

    async def start(self, *, pause_waiting: str | None = None) -> Recovery:
        """Put the last process's jobs back, and load the pause; call it before anything else.

        With a reason in `pause_waiting` a queue that is not empty pauses until an admin resumes it.
        """

        async def recover(tx: Transaction) -> Recovery:
            # What the clock said in the last process may lie ahead of what it says now.
            await put_stamps_right(tx, self._clock())
            recovery = await outcomes.recover(tx, self._clock())
            stored = await pause.settle(tx)
            if pause_waiting and stored.paused is None and await jobs.count_queued(tx):
                await pause.store(tx, replace(stored, paused=pause_waiting))
            return recovery

        recovery = await self.commits.change(recover)
        if recovery != Recovery():
            log.warning("of the jobs that the last process left running %s", recovery)
        return recovery

    def close(self) -> None:
        """Take nothing new and start nothing new; `submit` raises `ShuttingDown` from now on."""
        self.control.closed = True

    # What people do

    def new_job_id(self) -> str:
        """Return an id for a job whose files have to exist before it does."""
        return new_job_id(self._clock())

    async def submit(
        self,
        request: ImageRequest,
        origin: Origin,
        *,
        job_id: str | None = None,
        model: str | None = None,
        prepare: Callable[[], Awaitable[ImageRequest]] | None = None,
    ) -> Submission:
        """Commit a request as a queued job, with the address of its answer.

        All that may refuse it is asked here: raises a `Refusal`, or `StorageRefused`. A `source_id`
        seen before raises nothing, charges nothing and finds its first job. Cancelling the caller
        does not take a job back. The job is drawn by `model`; None: by the one that is configured
        when it begins.

        `prepare` does what costs something (fetching a picture) and returns the request with it. It
        is awaited at most once, and only for a request that nothing refuses before.
        """
        job_id = job_id or self.new_job_id()

        async def examined(tx: Transaction) -> Job | Admission:
            if first := await jobs.find_source(tx, origin.source_id):
                return first
            if self.control.closed:
                raise ShuttingDown
            self.commits.pause.require_open()
            cost = await self.forecast.cost(tx, model)
            return await examine(
                tx,
                request,
                origin,
                self._limits,
                verdict,
                cost=cost,
                now=self._clock(),
                model=(model or self.model) if self.models.several else None,
            )

        async def insert(tx: Transaction) -> tuple[Job, bool]:
            found = await examined(tx)
            if isinstance(found, Job):
                return found, True
            return await admit(tx, job_id, request, origin, found, model=model), False

        def accepted(inserted: tuple[Job, bool]) -> None:
            if not inserted[1]:
                with job_context(job_id):
                    log.info("job %s queued for user %d", job_id, origin.user_id)
                self.commits.tell(job_id, "queued")

        with refused_politely():
            verdict = PromptVerdict()
            while True:
                try:
                    if self._database.crowded or prepare is not None:
                        # Who is refused does not wait in the line of those who are not, and has
                        # nothing prepared.
                        found = await self._database.read(examined)
                        if prepare is not None and isinstance(found, Admission):
                            request, prepare = await prepare(), None
                    job, repeated = await self.commits.change(insert, accepted)
                    break
                except RulesDiffer as differing:
                    verdict = await PromptVerdict.judge(differing.rules, request)
        return Submission(job, repeated)

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
                raise NotAllowed(_("Only the person who asked for this picture can cancel it."))
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
                self.commits.tell(job_id, "final")
            elif outcome is CancelOutcome.CANCELLING:
                for listener in self.on_cancel:
                    listener(job_id)

        return await self.commits.change(cancel, told)

    async def leave_guild(self, guild_id: int) -> None:
        """Cancel the jobs that wait for a server which the bot is no longer in."""
        await self.ending(lambda tx: outcomes.leave_guild(tx, guild_id, self._clock()))

    async def ending(self, fn: Callable[[Transaction], Awaitable[list[str]]]) -> list[str]:
        """Commit `fn`, which ends jobs and returns their ids, and tell of their ends."""
        commits = self.commits
        return await commits.change(fn, lambda job_ids: commits.tell_all(job_ids, "final"))

    # What people see

    async def job(self, job_id: str) -> Job | None:
        """Return a job, or None if there is none."""
        return await self._database.read(lambda tx: jobs.find(tx, job_id))

    async def images(self, job_id: str) -> list[ImageRecord]:
        """Return the pictures of a job in their order."""
        return await self._database.read(lambda tx: jobs.find_images(tx, job_id))

    async def alt_text(self, job_id: str) -> str | None:
        """Return the alternative text of a job's pictures, None where none was written."""
        return await self._database.read(lambda tx: texts.alt_of(tx, job_id))

    async def place(self, job_id: str) -> QueuePlace | None:
        """Return where an open job stands; None when it is final or unknown."""
        return (await self.standing.now()).places.get(job_id)

    async def open_jobs(self, user_id: int | None = None) -> list[Job]:
        """Return the running jobs, then the queued ones in the order in which they will run."""
        standing = await self.standing.now()
        found = await self._database.read(lambda tx: jobs.find_open(tx, user_id))
        known = {job.id: job for job in found}
        return [known[entry.id] for entry in standing.order if entry.id in known]

    # What a worker does

    async def get(self) -> Job:
        """Start the next job in fair order; wait while there is none, or the queue pauses.

        Cancelling the caller loses nothing: a job that was just started goes back.
        """
        return await self.claims.next()
