"""The worker, the one task that drives an engine: claim a job, do it, record what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from bot.domain.job import ImageRecord, Job
from bot.domain.request import secrets_of
from bot.engine.protocol import (
    Engine,
    EngineState,
    Finished,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.errors.disk import refusal
from bot.fleet.attempt import Attempt, keep
from bot.fleet.measured_speed import MeasuredSpeed
from bot.fleet.obstacles import CRASHES, NOT_LOADED, Obstacles
from bot.fleet.session import EngineSession
from bot.fleet.texts import TextWork
from bot.jobs.queue import JobQueue
from bot.jobs.schedule import drawn_seconds, time_limit
from bot.jobs.tasks import being_cancelled, unbroken, until_stored
from bot.logs import job_context
from bot.rules.verdicts import ImageCheck
from bot.words import _, mark, speaking
from storage.images import ImageStore

log = logging.getLogger(__name__)
T = TypeVar("T")
_SENTENCES: Final = {
    EngineErrorKind.OUT_OF_MEMORY: mark(
        "The graphics card ran out of memory while it drew this: try a smaller size or fewer "
        "pictures."
    ),
    EngineErrorKind.RAISED: mark("The model failed while it drew this."),
    EngineErrorKind.DIED: mark("The image engine crashed while it drew this."),
    EngineErrorKind.SILENT: mark("The image engine hung while it drew this and was stopped."),
    EngineErrorKind.OVERTIME: mark(
        "The image engine took far longer for this than it should, and was stopped."
    ),
    EngineErrorKind.GARBLED: mark("The image engine broke down while it drew this."),
    EngineErrorKind.LOAD_FAILED: NOT_LOADED,
    EngineErrorKind.SWITCH_FAILED: mark("The model that was asked for could not be loaded."),
    EngineErrorKind.REFUSED: mark("The model cannot draw this."),
}

_NOT_WRITTEN: Final = mark("The model failed while it wrote this.")
_ELSEWHERE: Final = frozenset({EngineErrorKind.REFUSED, EngineErrorKind.SWITCH_FAILED})
"""What the same engine would say again, and another one perhaps would not."""


class GpuWorker:
    """Draws one job at a time on one engine; no job's fault ends it."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        store: ImageStore,
        *,
        check: ImageCheck | None = None,
        timer: Callable[[], float] = time.monotonic,
        retry_s: float = 1.0,
        idle_unload_s: float | None = None,
        time_factor: float = 0.0,
        instruction: str = "",
        source: Callable[[], Awaitable[Job]] | None = None,
        elsewhere: Callable[[Job], bool] = lambda _job: False,
    ) -> None:
        self.current: Job | None = None
        self.measured = MeasuredSpeed()
        self.crashes = 0
        """How often in a row the engine broke down under a job."""
        self.left: str | None = None
        """The job that other engines are to have, if there are any, since this one failed it."""
        self.unload_when_done = False
        self._queue = queue
        self._engine = engine
        self._store = store
        self._check = check
        self._timer = timer
        self._retry_s = retry_s
        self._idle_unload_s = idle_unload_s
        self._source = source or self._queue.get
        self._elsewhere = elsewhere
        self._obstacles = Obstacles(queue, store, retry_s)
        self.session = EngineSession(
            queue,
            engine,
            store,
            self._obstacles,
            timer=timer,
            retry_s=retry_s,
            limit_s=partial(self._limit_s, time_factor),
        )
        self._texts = TextWork(
            queue,
            store,
            self.session,
            timer=timer,
            retry_s=retry_s,
            instruction=instruction,
            time_factor=time_factor,
        )

    @property
    def pausing(self) -> bool:
        """Whether it takes no job since its model did not load or its disk refuses pictures."""
        return self._obstacles.pausing

    async def run(self) -> None:
        """Draw jobs until cancelled, which gives the job in hand back."""
        self._queue.on_cancel.append(self._on_cancel)
        try:
            await self._run()
        finally:
            self._queue.on_cancel.remove(self._on_cancel)
            self._obstacles.end()

    async def _run(self) -> None:
        while True:
            try:
                job = await self._next_job()
            except Exception:
                log.exception("no job could be claimed")
                await asyncio.sleep(self._retry_s)
                continue
            self.current = job
            self.session.cancel_asked.clear()
            try:
                with job_context(job.id, *secrets_of(job.request)), speaking(job.locale):
                    await self._work(job)
            except asyncio.CancelledError:
                await unbroken(self._queue.commits.give_back_surely(job))
                raise
            except Exception:
                log.exception("job %s: its outcome could not be recorded", job.id)
                await self._fault_at_last(job)
            finally:
                self.current = None
            if being_cancelled():  # A fault that was found in the stop took its place.
                raise asyncio.CancelledError
            if self.unload_when_done:
                await self._engine.unload()
            await self._obstacles.wait()

    async def _next_job(self) -> Job:
        """Claim a job; free the engine's memory if there is none for long."""
        claim = asyncio.ensure_future(self._stored(self._source))
        try:
            while not (await asyncio.wait({claim}, timeout=self._idle_unload_s))[0]:
                # Also one whose load was cancelled halfway: it went on loading, for nobody.
                if self._engine.state is not EngineState.STOPPED and await self._engine.unload():
                    log.info("nothing to draw for %g s: unloaded", self._idle_unload_s)
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            claim.cancel()
            await asyncio.wait({claim})
            if not claim.cancelled() and claim.exception() is None:
                await unbroken(self._queue.commits.give_back_surely(claim.result()))
            raise

    def _on_cancel(self, job_id: str) -> None:
        if self.current and self.current.id == job_id:
            self.session.cancel_asked.set()

    async def _work(self, job: Job) -> None:
        attempt = Attempt(job, self._timer())
        try:
            text = await self._texts.answer(attempt) if job.request.writes else None
            images = await self._pictures(attempt) if text is None else []
        except GenerationCancelled:
            # Whoever gives a job up that had a model changed has had the card for that.
            spent_s, drawn = self._spent(attempt) or attempt.switch_s, attempt.drawn
            await self._stored(
                lambda: self._queue.commits.record_cancelled(job, spent_s=spent_s, drawn=drawn)
            )
        except EngineError as error:
            if error.kind is EngineErrorKind.DISK_REFUSED:
                await self._obstacles.disk_refused(
                    job, error.sentence or error.detail, error.detail
                )
                return
            if error.loading or error.kind is EngineErrorKind.LOAD_FAILED:
                await self._obstacles.not_loaded(job, error)
                return
            if error.kind in _ELSEWHERE and self._elsewhere(job):
                log.warning("job %s goes to another engine: %s", job.id, error.detail)
                self.left = job.id
                await self._stored(lambda: self._queue.commits.give_back(job))
                return
            if error.kind in CRASHES or self._engine.state is EngineState.STOPPED:
                self.crashes += 1
                self.left = job.id
            usual = _NOT_WRITTEN if job.request.writes else _SENTENCES[error.kind]
            sentence = error.spoken() or _(usual)
            await self._fault(attempt, error.kind, sentence, error.detail)
        except Exception as error:
            if (reason := refusal(error)) and isinstance(error, OSError):
                await self._obstacles.disk_refused(job, reason, str(error.strerror))
                return
            log.exception("job %s: unexpected error", job.id)
            sentence = _("Something went wrong inside the bot.")
            await self._fault(attempt, "internal", sentence, type(error).__name__)
        else:
            self.crashes = 0
            self._obstacles.cleared()
            await self._generated(attempt, images, text)

    async def _pictures(self, attempt: Attempt) -> list[ImageRecord]:
        try:
            await self._texts.rewrite(attempt)
            await self.session.draw(attempt)
            try:
                return await keep(self._store, attempt.job.id, attempt.pictures, self._check)
            except EngineError:  # Its child exchanges files behind our back.
                await self._engine.unload()
                raise
        finally:  # Once the outcome is recorded, another engine may draw the job in this folder.
            await unbroken(self._store.clear(attempt.job.id))

    async def _generated(
        self, attempt: Attempt, images: list[ImageRecord], text: str | None
    ) -> None:
        finished = attempt.finished  # None where nothing could write, and that is the answer
        rewrite = {"rewrite": attempt.rewrite_s} if attempt.rewrite_s else {}
        timings = {**rewrite, **({} if finished is None else finished.timings)}
        timings["load"] = attempt.load_s + timings.get("load", 0.0)
        if text is None and finished is not None:
            self._measure(attempt.job, finished)
        peak = None if finished is None else finished.peak_gpu_bytes
        recorded = await self._stored(
            lambda: self._queue.commits.record_generated(
                attempt.job,
                images,
                timings,
                peak,
                attempt.job.model or self._queue.model,
                text=text,
            )
        )
        if not recorded:
            log.warning("job %s: this attempt is over, its pictures are not used", attempt.job.id)
            if not await self._queue.images(attempt.job.id):  # Another attempt's have these names.
                with contextlib.suppress(OSError):
                    await self._store.drop(images)

    def _measure(self, job: Job, finished: Finished) -> None:
        if (seconds := drawn_seconds(finished.timings)) > 0:
            self.measured.note(job.model or self._queue.model, job.request.megapixel_steps, seconds)

    async def _limit_s(self, factor: float, job: Job) -> float | None:
        """Return the most seconds that a job may be drawn; None: no limit."""
        if not factor:
            return None
        speed = self.measured.of(job.model or self._queue.model)
        rates = [await self._queue.forecast.measured(job.model), speed and 1 / speed]
        return time_limit(job.request.megapixel_steps, rates, factor)

    async def _fault(self, attempt: Attempt, kind: str, sentence: str, detail: str) -> None:
        job, spent_s = attempt.job, self._spent(attempt)
        log.warning("job %s (attempt %d): %s: %s", job.id, job.attempts, kind, detail)
        await self._stored(
            lambda: self._queue.commits.record_fault(
                job,
                kind,
                f"{sentence} ({job.id})",
                detail,
                spent_s=spent_s,
                final=kind in _ELSEWHERE,
            )
        )

    async def _fault_at_last(self, job: Job) -> None:
        """Count a fault where an outcome could not be recorded, so that the job does not hang."""
        sentence = f"{_('Something went wrong inside the bot.')} ({job.id})"
        try:
            await self._queue.commits.record_fault(
                job, "internal", sentence, "outcome not recorded"
            )
        except Exception:
            log.exception("job %s: it stays as it is until the next start", job.id)

    async def _stored(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_stored(work, self._retry_s)

    def _spent(self, attempt: Attempt) -> float:
        return self._timer() - attempt.began_at if attempt.steps else 0.0
