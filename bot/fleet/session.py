"""Sessions with an engine: one job is drawn at a time, its news passed on, a cancel passed in."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

from bot.domain.job import Job
from bot.engine.protocol import (
    READY,
    CardUse,
    Compiling,
    Engine,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Step,
    Switched,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.fleet.attempt import Attempt, engine_request
from bot.fleet.obstacles import Obstacles, noted
from bot.jobs.feed import JobUpdate
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import until_stored
from storage.images import ImageStore

log = logging.getLogger(__name__)


class EngineSession:
    """Has one engine draw attempts, one after another.

    `limit_s` tells how many seconds a job may take.
    """

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        store: ImageStore,
        obstacles: Obstacles,
        *,
        timer: Callable[[], float],
        retry_s: float,
        limit_s: Callable[[Job], Awaitable[float | None]],
    ) -> None:
        self.device: str | None = None
        """What the engine said it draws on, once it has loaded."""
        self.card_use: CardUse | None = None
        """What the engine said of it last: once loaded, or at the end of a job."""
        self.loras: frozenset[str] = frozenset()
        """The LoRAs of its last job, which it still holds."""
        self.model: str | None = None
        """The model that the engine said it holds, or is to hold for the job in hand.

        None before its first job, and after a switch that failed.
        """
        self._held: str | None = None
        """The model that it said it holds, while a job is in hand."""
        self.switched = False
        """Whether it held another model when its last job began."""
        self.cancel_asked = asyncio.Event()
        """Set when the job in hand is to be given up; the caller clears it for the next one."""
        self._queue = queue
        self._engine = engine
        self._store = store
        self._obstacles = obstacles
        self._timer = timer
        self._retry_s = retry_s
        self._limit_s = limit_s
        self._loading: tuple[str, int] | None = None

    async def draw(self, attempt: Attempt) -> None:
        """Have the engine draw; what came of it stands in `attempt`.

        Raises `GenerationCancelled`, `EngineError`, or `OSError` where the engine's pipe breaks.
        """
        # A cancel that was committed right after the claim came too early to be told of.
        row = await until_stored(lambda: self._queue.job(attempt.job.id), self._retry_s)
        if row is None or row.cancel_requested_at is not None:
            raise GenerationCancelled
        limit_s = await until_stored(lambda: self._limit_s(attempt.job), self._retry_s)
        model = attempt.job.model or self._queue.model
        request = engine_request(attempt.job, self._store, model, limit_s)
        if request.input_image is not None:
            lend = self._store.inputs.lend
            await asyncio.to_thread(lend, attempt.job.id, request.input_image)
        self.loras = frozenset(name for name, _strength in request.loras)
        held = self._held = self.model if self._engine.state in READY else None
        self.model, self.switched = model, held not in {None, model}
        attempt.switches_to = model if self.switched else ""
        cancelling = asyncio.ensure_future(self._pass_on_cancel(attempt.job.id))
        try:
            # Every engine is an async generator: closing it early ends the engine's work.
            events = cast("AsyncGenerator[Event, None]", self._engine.generate(request))
            async with aclosing(events):
                async for event in events:
                    await self._take(attempt, event)
                    if self.cancel_asked.is_set():  # The first call may have come too early.
                        await self._engine.cancel(attempt.job.id)
        finally:
            cancelling.cancel()
            self.model = self._held  # It may have been cancelled, or have failed, before a switch.
        indices = sorted(picture.index for picture in attempt.pictures)
        if not attempt.finished or indices != list(range(attempt.job.request.count)):
            raise EngineError(
                EngineErrorKind.GARBLED,
                f"it ended with {len(attempt.pictures)} of {attempt.job.request.count} pictures",
            )

    async def _pass_on_cancel(self, job_id: str) -> None:
        await self.cancel_asked.wait()
        try:
            await self._engine.cancel(job_id)
        except (EngineError, OSError):
            log.exception("job %s: the engine could not be asked to stop", job_id)

    async def _take(self, attempt: Attempt, event: Event) -> None:
        job_id = attempt.job.id
        total = attempt.job.request.steps
        match event:
            case Loading(stage, fraction):
                self._log_loading(stage, fraction)
                to = attempt.switches_to
                self._tell(JobUpdate(job_id, "loading", stage=stage, fraction=fraction, model=to))
            case Loaded():
                self._obstacles.loaded()
                self._held = event.model
                if event.model != self.model:  # An earlier job's, which was being loaded.
                    self.switched, attempt.switches_to = True, self.model or ""
                self.device, self.card_use = event.device, event.card_use
                attempt.began_at = self._timer()
                attempt.load_s = event.seconds
                log.info("job %s: %s loaded in %.1f s", job_id, event.model, event.seconds)
                await noted(self._queue.forecast.note_load_time(event.seconds))
                self._tell(JobUpdate(job_id, "running"))
            case Switched(model, seconds):
                self.model = self._held = model
                attempt.switches_to = ""
                attempt.switch_s = seconds if self.switched else 0.0
                now = model or "no model, since the other could not be loaded"
                log.info("job %s: the engine has %s after %.1f s", job_id, now, seconds)
                self._tell(JobUpdate(job_id, "running"))
            case Compiling():
                log.info("job %s: the blocks are compiled for it", job_id)
                self._tell(JobUpdate(job_id, "compiling"))
            case Step(index, total):
                attempt.steps, attempt.drawn = index, index / total
                self._held = self.model
                attempt.total_steps = total
                self._tell(JobUpdate(job_id, "step", index, total))
            case Preview(step, data):
                total = attempt.total_steps or total
                self._tell(JobUpdate(job_id, "preview", step, total, preview=data))
            case Picture():
                attempt.pictures.append(event)
            case Finished():
                attempt.finished = event
                self.card_use = event.card_use

    def _log_loading(self, stage: str, fraction: float | None) -> None:
        """Log each stage, and the long ones again every tenth."""
        tenth = (stage, math.floor(10 * (fraction or 0.0)))
        if tenth != self._loading:
            self._loading = tenth
            share = "" if fraction is None else f": {fraction:.0%}"
            log.info("engine: %s%s", stage, share)

    def _tell(self, update: JobUpdate) -> None:
        self._queue.feed.publish(update)
