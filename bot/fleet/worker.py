"""The one task that drives the engine: claim a job, draw it, record what came of it."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar, cast

from bot.domain.job import ImageRecord, Job
from bot.engine.protocol import (
    Engine,
    EngineState,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Step,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.errors.disk import HELD, refusal
from bot.fleet.attempt import Attempt, engine_request, keep
from bot.jobs.feed import JobUpdate
from bot.jobs.queue import JobQueue
from bot.jobs.schedule import gpu_seconds
from bot.jobs.tasks import RETRY_LIMIT_S, unbroken, until_stored
from bot.logs import job_context
from bot.rules.verdicts import ImageCheck
from bot.words import _, mark, speaking
from storage.images import ImageStore

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOAD_FACTOR, _DOUBLINGS = 5.0, 6
_CRASHES: Final = frozenset({EngineErrorKind.DIED, EngineErrorKind.SILENT, EngineErrorKind.GARBLED})
_SENTENCES: Final = {
    EngineErrorKind.OUT_OF_MEMORY: mark(
        "The graphics card ran out of memory while it drew this: try a smaller size or fewer "
        "pictures."
    ),
    EngineErrorKind.RAISED: mark("The model failed while it drew this."),
    EngineErrorKind.DIED: mark("The image engine crashed while it drew this."),
    EngineErrorKind.SILENT: mark("The image engine hung while it drew this and was stopped."),
    EngineErrorKind.GARBLED: mark("The image engine broke down while it drew this."),
    EngineErrorKind.LOAD_FAILED: mark("It could not be loaded."),
    EngineErrorKind.REFUSED: mark("The model cannot draw this."),
}


class GpuWorker:
    """Draws one job at a time on one engine; no job's fault ends it."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        store: ImageStore,
        *,
        check: ImageCheck | None = None,
        clock: Callable[[], float] = time.time,
        retry_s: float = 1.0,
        idle_unload_s: float | None = None,
        source: Callable[[], Awaitable[Job]] | None = None,
        elsewhere: Callable[[Job], bool] = lambda _job: False,
    ) -> None:
        self.current: Job | None = None
        self.device: str | None = None
        """What the engine said it draws on, once it has loaded."""
        self.loras: frozenset[str] = frozenset()
        """The LoRAs of its last job, which it still holds."""
        self.speed: float | None = None
        """Megapixel steps a second, of late."""
        self.crashes = 0
        """How often in a row the engine broke down under a job."""
        self.left: str | None = None
        """The job that other engines are to have, if there are any, since this one failed it."""
        self.unload_when_done = False
        self._queue = queue
        self._engine = engine
        self._store = store
        self._check = check
        self._clock = clock
        self._retry_s = retry_s
        self._idle_unload_s = idle_unload_s
        self._source = source or self._queue.get
        self._elsewhere = elsewhere
        self._loading: tuple[str, int] | None = None
        self._load_failures = 0
        self._load_pause_s = 0.0
        self._refused = False
        self._refusals = 0
        self._cancel_asked = asyncio.Event()

    @property
    def pausing(self) -> bool:
        """Whether it takes no job since its model did not load or its disk refuses pictures."""
        return self._refused or self._load_pause_s > 0

    async def run(self) -> None:
        """Draw jobs until cancelled, which gives the job in hand back."""
        self._queue.on_cancel.append(self._on_cancel)
        try:
            await self._run()
        finally:
            self._queue.on_cancel.remove(self._on_cancel)
            self._queue.control.hold(self, None)

    async def _run(self) -> None:
        while True:
            try:
                job = await self._next_job()
            except Exception:
                log.exception("no job could be claimed")
                await asyncio.sleep(self._retry_s)
                continue
            self.current = job
            self._cancel_asked.clear()
            try:
                prompts = (job.request.prompt, job.request.negative_prompt)
                with job_context(job.id, *prompts), speaking(job.locale):
                    await self._work(job)
            except asyncio.CancelledError:
                await unbroken(self._queue.commits.give_back_surely(job))
                raise
            except Exception:
                log.exception("job %s: its outcome could not be recorded", job.id)
                await self._fault_at_last(job)
            finally:
                self.current = None
            if self.unload_when_done:
                await self._engine.unload()
            if self._refused:
                await self._wait_for_room()
            if self._load_pause_s:
                await asyncio.sleep(self._load_pause_s)
                self._load_pause_s = 0.0

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
            self._cancel_asked.set()

    async def _work(self, job: Job) -> None:
        drawing = Attempt(job, self._clock())
        try:
            images = await self._pictures(drawing)
        except GenerationCancelled:
            spent_s, drawn = self._spent(drawing), drawing.drawn
            await self._stored(
                lambda: self._queue.commits.record_cancelled(job, spent_s=spent_s, drawn=drawn)
            )
        except EngineError as error:
            if error.kind is EngineErrorKind.DISK_REFUSED:
                await self._refuse(job, error.sentence or error.detail, error.detail)
                return
            if error.loading or error.kind is EngineErrorKind.LOAD_FAILED:
                await self._not_loaded(job, error)
                return
            if error.kind is EngineErrorKind.REFUSED and self._elsewhere(job):
                log.warning("job %s goes to another engine: %s", job.id, error.detail)
                self.left = job.id
                await self._stored(lambda: self._queue.commits.give_back(job))
                return
            if error.kind in _CRASHES or self._engine.state is EngineState.STOPPED:
                self.crashes += 1
                self.left = job.id
            sentence = error.spoken() or _(_SENTENCES[error.kind])
            await self._fault(drawing, error.kind, sentence, error.detail)
        except Exception as error:
            if (reason := refusal(error)) and isinstance(error, OSError):
                await self._refuse(job, reason, str(error.strerror))
                return
            log.exception("job %s: unexpected error", job.id)
            sentence = _("Something went wrong inside the bot.")
            await self._fault(drawing, "internal", sentence, type(error).__name__)
        else:
            self._load_failures = self.crashes = self._refusals = 0
            await self._generated(drawing, images)

    async def _pictures(self, drawing: Attempt) -> list[ImageRecord]:
        try:
            await self._draw(drawing)
            return await keep(self._store, drawing.job.id, drawing.pictures, self._check)
        finally:  # Once the outcome is recorded, another engine may draw the job in this folder.
            await unbroken(self._store.clear(drawing.job.id))

    async def _refuse(self, job: Job, reason: str, detail: str) -> None:
        """Put a job back whose pictures the disk did not take: no fault of its own."""
        log.error("job %s goes back: %s (%s)", job.id, reason, detail)
        self._refused = True
        self._refusals = min(self._refusals + 1, _DOUBLINGS)
        # Everyone who waits reads it, each in an own language: it is looked up where it is shown.
        self._queue.control.hold(self, HELD.get(reason, reason))
        await self._stored(lambda: self._queue.commits.give_back(job))

    async def _wait_for_room(self) -> None:
        """Start nothing until pictures can be written again."""
        # Longer each time also where the disk always has room for the trial, and not for pictures.
        tries = self._refusals - 1
        while self._refused:
            await asyncio.sleep(min(self._retry_s * 2**tries, RETRY_LIMIT_S))
            tries = min(tries + 1, _DOUBLINGS)
            try:
                await self._store.try_writing()
            except OSError as error:
                log.error("pictures cannot be written yet: %s", error.strerror)
            else:
                self._refused = False
        log.info("pictures can be written again")
        self._queue.control.hold(self, None)

    async def _draw(self, drawing: Attempt) -> None:
        # A cancel that was committed right after the claim came too early for `_on_cancel`.
        row = await self._stored(lambda: self._queue.job(drawing.job.id))
        if row is None or row.cancel_requested_at is not None:
            raise GenerationCancelled
        request = engine_request(drawing.job, self._store, self._queue.model)
        self.loras = frozenset(name for name, _strength in request.loras)
        cancelling = asyncio.ensure_future(self._pass_on_cancel(drawing.job.id))
        try:
            # Every engine is an async generator: closing it early ends the engine's work.
            events = cast("AsyncGenerator[Event, None]", self._engine.generate(request))
            async with aclosing(events):
                async for event in events:
                    await self._take(drawing, event)
                    if self._cancel_asked.is_set():  # The first call may have come too early.
                        await self._engine.cancel(drawing.job.id)
        finally:
            cancelling.cancel()
        indices = sorted(picture.index for picture in drawing.pictures)
        if not drawing.finished or indices != list(range(drawing.job.request.count)):
            raise EngineError(
                EngineErrorKind.GARBLED,
                f"it ended with {len(drawing.pictures)} of {drawing.job.request.count} pictures",
            )

    async def _pass_on_cancel(self, job_id: str) -> None:
        await self._cancel_asked.wait()
        try:
            await self._engine.cancel(job_id)
        except (EngineError, OSError):
            log.exception("job %s: the engine could not be asked to stop", job_id)

    async def _take(self, drawing: Attempt, event: Event) -> None:
        job_id = drawing.job.id
        total = drawing.job.request.steps
        match event:
            case Loading(stage, fraction):
                self._log_loading(stage, fraction)
                self._tell(JobUpdate(job_id, "loading", stage=stage, fraction=fraction))
            case Loaded():
                self._load_failures = 0
                self.device = event.device
                drawing.began_at = self._clock()
                drawing.load_s = event.seconds
                log.info("job %s: %s loaded in %.1f s", job_id, event.model, event.seconds)
                await self._note(self._queue.forecast.note_load_time(event.seconds))
                self._tell(JobUpdate(job_id, "running"))
            case Step(index, total):
                drawing.steps, drawing.drawn = index, index / total
                self._tell(JobUpdate(job_id, "step", index, total))
            case Preview(step, data):
                self._tell(JobUpdate(job_id, "preview", step, total, preview=data))
            case Picture():
                drawing.pictures.append(event)
            case Finished():
                drawing.finished = event

    async def _note(self, noting: Awaitable[None]) -> None:
        try:
            await noting
        except sqlite3.Error:
            log.warning("what came of loading could not be stored", exc_info=True)

    def _log_loading(self, stage: str, fraction: float | None) -> None:
        """Log each stage, and the long ones again every tenth."""
        tenth = (stage, math.floor(10 * (fraction or 0.0)))
        if tenth != self._loading:
            self._loading = tenth
            share = "" if fraction is None else f": {fraction:.0%}"
            log.info("engine: %s%s", stage, share)

    async def _generated(self, drawing: Attempt, images: list[ImageRecord]) -> None:
        assert drawing.finished
        self._measure(drawing.job, drawing.finished)
        timings = {"load": drawing.load_s, **drawing.finished.timings}
        peak = drawing.finished.peak_gpu_bytes
        recorded = await self._stored(
            lambda: self._queue.commits.record_generated(
                drawing.job, images, timings, peak, self._queue.model
            )
        )
        if not recorded:
            log.warning("job %s: this attempt is over, its pictures are not used", drawing.job.id)

    def _measure(self, job: Job, finished: Finished) -> None:
        if (seconds := gpu_seconds(finished.timings)) > 0:
            now = job.request.megapixel_steps / seconds
            self.speed = now if self.speed is None else 0.7 * self.speed + 0.3 * now

    async def _fault(self, drawing: Attempt, kind: str, sentence: str, detail: str) -> None:
        job, spent_s = drawing.job, self._spent(drawing)
        log.warning("job %s (attempt %d): %s: %s", job.id, job.attempts, kind, detail)
        await self._stored(
            lambda: self._queue.commits.record_fault(
                job,
                kind,
                f"{sentence} ({job.id})",
                detail,
                spent_s=spent_s,
                final=kind == EngineErrorKind.REFUSED,
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

    async def _not_loaded(self, job: Job, error: EngineError) -> None:
        """Put the job back: it is not its fault, and every other one would meet the same."""
        self._load_failures += 1
        await self._note(self._queue.forecast.note_load_failure(error.detail))
        if error.kind in _CRASHES and self._load_failures == 1:
            # Chance ends a process too (memory that another program took): at once, but only once.
            log.warning("the model did not load (%s); it is tried again", error.detail)
            await self._stored(lambda: self._queue.commits.give_back(job))
            return
        doubled = 2 ** min(self._load_failures, _DOUBLINGS)
        self._load_pause_s = pause = self._retry_s * _LOAD_FACTOR * doubled
        log.warning("the model does not load (%s); next try in %.0f s", error.detail, pause)
        await self._stored(lambda: self._queue.commits.give_back(job))
        sentence = error.spoken() or _(_SENTENCES[EngineErrorKind.LOAD_FAILED])
        again = _("Next try in {seconds} s.").format(seconds=f"{pause:.0f}")
        self._tell(JobUpdate(job.id, "loading", stage=f"{sentence} {again}"))

    async def _stored(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_stored(work, self._retry_s)

    def _spent(self, drawing: Attempt) -> float:
        return self._clock() - drawing.began_at if drawing.steps else 0.0

    def _tell(self, update: JobUpdate) -> None:
        self._queue.feed.publish(update)
