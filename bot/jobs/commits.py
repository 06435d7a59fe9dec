"""Commits of what becomes of jobs, each told to the rest of the process afterwards."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from bot.domain.job import ImageRecord, Job, JobState
from bot.domain.request import ImageRequest
from bot.jobs import outcomes, pause
from bot.jobs.feed import PLACES_MOVED, Feed, JobUpdate, UpdateKind
from bot.jobs.pause import QueuePause
from bot.jobs.tasks import until_stored
from bot.logs import job_context
from storage.database import Database, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETURN_RETRY_S: Final = 0.5
_RETURN_PATIENCE_S: Final = 3.0


class Commits:
    """Commits changes of the queue, how attempts at jobs end above all, and tells of them."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.feed = Feed()
        self._database = database
        self._clock = clock
        self.pause = QueuePause()
        """What closes the queue, as of the last commit."""
        self._changed = asyncio.Event()
        self._returning: set[asyncio.Task[bool]] = set()

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change of the queue, or of the engines; ask anew for the one after."""
        return self._changed

    async def record_generated(
        self,
        job: Job,
        images: Sequence[ImageRecord],
        timings: Mapping[str, float],
        peak_gpu_bytes: int | None,
        model: str,
        *,
        text: str | None = None,
    ) -> bool:
        """End a job with its pictures, or its text; False, and nothing changed, if it is over."""

        async def record(tx: Transaction) -> bool:
            return await outcomes.generated(
                tx,
                job,
                self._clock(),
                images=images,
                timings=timings,
                peak_gpu_bytes=peak_gpu_bytes,
                model=model,
                text=text,
            )

        return await self._end(job, JobState.GENERATED, record)

    async def record_rewritten(self, job: Job, request: ImageRequest, spent_s: float) -> bool:
        """Store the request of a running job with its rewritten prompt; False: it is over."""

        async def record(tx: Transaction) -> bool:
            now = self._clock()
            return await outcomes.rewritten(tx, job, now, request=request, spent_s=spent_s)

        return await self.change(record, first=True)

    async def record_cancelled(self, job: Job, *, spent_s: float = 0.0, drawn: float = 1.0) -> bool:
        """End a running job as cancelled, after `spent_s` seconds of the GPU.

        What was charged is refunded but for the share that was `drawn` (0 to 1). False if this
        attempt is over.
        """

        async def record(tx: Transaction) -> bool:
            return await outcomes.cancelled(tx, job, self._clock(), spent_s=spent_s, drawn=drawn)

        return await self._end(job, JobState.CANCELLED, record)

    async def record_fault(
        self,
        job: Job,
        kind: str,
        sentence: str,
        detail: str,
        *,
        spent_s: float = 0.0,
        final: bool = False,
    ) -> JobState | None:
        """Count a fault: the job is queued again, or failed with `sentence`; None if it is over.

        A `final` fault fails the job at once.
        """

        async def record(tx: Transaction) -> JobState | None:
            return await outcomes.fault(
                tx,
                job,
                self._clock(),
                kind=kind,
                sentence=sentence,
                detail=detail,
                spent_s=spent_s,
                final=final,
            )

        return await self.change(record, partial(self._tell_state, job), first=True)

    async def give_back(self, job: Job) -> bool:
        """Put a running job back at no cost, for a clean shutdown; False if its attempt is over."""

        async def record(tx: Transaction) -> JobState | None:
            return await outcomes.give_back(tx, job, self._clock())

        told = partial(self._tell_state, job)
        return bool(await self.change(record, told, first=True))

    async def give_back_surely(self, job: Job) -> None:
        """`give_back` by one who leaves: where the database refuses, it is tried on and on.

        Returns after a few seconds at most, whatever came of it until then. What is not given back
        when the process ends is found running by the next one.
        """
        returning = asyncio.create_task(until_stored(lambda: self.give_back(job), _RETURN_RETRY_S))
        self._returning.add(returning)
        returning.add_done_callback(partial(self._returned, job.id))
        await asyncio.wait({returning}, timeout=_RETURN_PATIENCE_S)

    def _returned(self, job_id: str, returning: asyncio.Task[bool]) -> None:
        self._returning.discard(returning)
        if not returning.cancelled() and (error := returning.exception()):
            log.error(
                "job %s: not given back; the next start finds it running", job_id, exc_info=error
            )

    async def _end(
        self, job: Job, state: JobState, record: Callable[[Transaction], Awaitable[bool]]
    ) -> bool:
        return await self.change(
            record,
            lambda recorded: self._tell_state(job, state if recorded else None),
            first=True,
        )

    async def change(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        told: Callable[[T], None] | None = None,
        *,
        first: bool = False,
    ) -> T:
        """Commit `fn`, then tell the rest of the process, also if the caller is gone by then.

        What is `first` goes before new requests (`Database.write`).
        """

        async def change(tx: Transaction) -> tuple[T, QueuePause]:
            return await fn(tx), await pause.settle(tx)

        def then(result: tuple[T, QueuePause]) -> None:
            self.pause = result[1]
            if told:
                told(result[0])
            self.feed.publish(PLACES_MOVED)
            self.wake()

        return (await self._database.write(change, then=then, first=first))[0]

    def wake(self) -> None:
        """Have all who wait for `changed` look at the queue anew."""
        self._changed.set()
        self._changed = asyncio.Event()

    def tell(self, job_id: str, kind: UpdateKind) -> None:
        """Publish what happened to a job."""
        self.feed.publish(JobUpdate(job_id, kind))

    def tell_all(self, job_ids: Sequence[str], kind: UpdateKind) -> None:
        """Publish what happened to several jobs."""
        for job_id in job_ids:
            self.tell(job_id, kind)

    def _tell_state(self, job: Job, state: JobState | None) -> None:
        if state is not None:
            with job_context(job.id):
                log.info("job %s (attempt %d) is %s", job.id, job.attempts, state)
            self.tell(job.id, "final" if state.final else "queued")
