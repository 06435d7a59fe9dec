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
    Request,
    Step,
    Switched,
    WriteRequest,
    Written,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from bot.fleet.attempt import Attempt, engine_request, lend_inputs
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
        self._expected: int | None = None
        """The tokens of the text in hand, by estimate; 0 where a picture follows, None for none."""

    async def draw(self, attempt: Attempt) -> None:
        """Have the engine draw; what came of it stands in `attempt`.

        Raises `GenerationCancelled`, `EngineError`, or `OSError` where the engine's pipe breaks.
        """
        await self._require_wanted(attempt.job.id)
        limit_s = await until_stored(lambda: self._limit_s(attempt.job), self._retry_s)
        model = attempt.job.model or self._queue.model
        request = engine_request(attempt.job, self._store, model, limit_s)
        if request.input_image is not None or request.references:
            await asyncio.to_thread(lend_inputs, attempt.job, self._store, request)
        self.loras = frozenset(name for name, _strength in request.loras)
        await self._ask(attempt, request, model)
        indices = sorted(picture.index for picture in attempt.pictures)
        if not attempt.finished or indices != list(range(attempt.job.request.count)):
            raise EngineError(
                EngineErrorKind.GARBLED,
                f"it ended with {len(attempt.pictures)} of {attempt.job.request.count} pictures",
            )

    async def write(self, attempt: Attempt, request: WriteRequest, *, draws: bool) -> None:
        """Have the engine write; what came of it stands in `attempt`. Raises as `draw`.

        `draws`: the job is drawn afterwards.
        """
        await self._require_wanted(attempt.job.id)
        attempt.written.clear()
        self._expected = 0 if draws else round(attempt.job.request.tokens)
        try:
            await self._ask(attempt, request, request.model or self._queue.model)
        finally:
            self._expected = None
        if not attempt.finished or attempt.pictures:
            raise EngineError(EngineErrorKind.GARBLED, "it ended without its text")

    async def _require_wanted(self, job_id: str) -> None:
        """Raise `GenerationCancelled` where nobody wants the job any more."""
        # A cancel that was committed right after the claim came too early to be told of.
        row = await until_stored(lambda: self._queue.job(job_id), self._retry_s)
        if row is None or row.cancel_requested_at is not None:
            raise GenerationCancelled

    async def _ask(self, attempt: Attempt, request: Request, model: str) -> None:
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
                attempt.note_loading(self._timer())
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
            case Written(text, tokens):
                if self._expected is None:
                    detail = "it wrote a text instead of pictures"
                    raise EngineError(EngineErrorKind.GARBLED, detail)
                attempt.written.append(text)
                attempt.steps, self._held = tokens, self.model
                attempt.drawn = min(1.0, tokens / self._expected) if self._expected else 0.0
                self._tell(JobUpdate(job_id, "writing", tokens, self._expected))

    def _log_loading(self, stage: str, fraction: float | None) -> None:
        """Log each stage, and the long ones again every tenth."""
        tenth = (stage, math.floor(10 * (fraction or 0.0)))
        if tenth != self._loading:
            self._loading = tenth
            share = "" if fraction is None else f": {fraction:.0%}"
            log.info("engine: %s%s", stage, share)

    def _tell(self, update: JobUpdate) -> None:
        self._queue.feed.publish(update)
