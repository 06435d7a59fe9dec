"""The progress editor: keeps the messages of waiting and running jobs up to date, gently."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, isinf
from typing import Final

from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.breaker import CircuitBreaker
from bot.delivery.errors import RetryLaterError, RungClosedError, explain
from bot.delivery.ladder import BY_DISCORD, Ladder, token_lives
from bot.delivery.visibility import Visibility
from bot.domain.job import Job, JobState
from bot.jobs.feed import JobUpdate
from bot.jobs.outlook import QueuePlace
from bot.jobs.queue import JobQueue
from bot.logs import job_context
from bot.messages.card import Card
from bot.messages.outcome import progress
from bot.messages.status import progress_status, waiting_status
from bot.words import speak, speaking
from storage import deliveries
from storage.database import Database
from storage.deliveries import Delivery

log = logging.getLogger(__name__)

# Discord publishes no rate for edits; three seconds is what well-behaved bots keep.
RUNNING_PACE_S: Final = 3.0
WAITING_PACE_S: Final = 10.0
# Of all waiting jobs together: in a long queue each message changes more seldom.
WAITING_EDITS_A_SECOND: Final = 25.0
# A look at every message takes a noticeable part of a core where there are thousands.
_REST: Final = 10.0
SLOW_PACE_S: Final = 0.25
# Edits of messages older than an hour are limited harder (error 30046).
_OLDEST_S: Final = 3500.0
_PATIENCE_S: Final = 10.0
_EDIT_LIMIT_S: Final = 30.0
# A change of the queue may concern every message that waits.
_AT_ONCE: Final = 16


@dataclass
class _Shown:
    """What one job's message shows, and when it was last edited."""

    job: Job
    delivery: Delivery
    latest: JobUpdate | None = None
    text: str = ""
    preview: bytes | None = field(default=None, repr=False)
    """The newest small picture of the unfinished result."""
    first_step: tuple[int, float] | None = None
    """The first step of this attempt that was heard of, and when, in the loop's own seconds."""
    previews: bool = True
    """Whether Discord takes pictures here."""
    edited_at: float = -inf
    """In the loop's own seconds."""
    edit: asyncio.Task[None] | None = field(default=None, repr=False)
    ended: bool = False

    @property
    def running(self) -> bool:
        return self.latest is not None

    def left_s(self) -> float | None:
        """Return how long the steps that are left will take, by those since the first; in s."""
        if self.latest is None or self.first_step is None:
            return None
        first, at = self.first_step
        if self.latest.step <= first:
            return None
        return (self.latest.total - self.latest.step) * (_now() - at) / (self.latest.step - first)

    def next_edit_at(self, waiting_pace_s: float) -> float:
        return self.edited_at + (RUNNING_PACE_S if self.running else waiting_pace_s)


def _now() -> float:
    return asyncio.get_running_loop().time()


class ProgressEditor:
    """One task: follows the feed, edits on change, each message at most every three seconds."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        ladder: Ladder,
        acknowledgements: Acknowledgements,
        visibility: Visibility,
        breaker: CircuitBreaker,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._ladder = ladder
        self._acknowledgements = acknowledgements
        self._visibility = visibility
        self._breaker = breaker
        self._clock = clock
        self._shown: dict[str, _Shown] = {}
        self._dirty: set[str] = set()
        self._edits: set[asyncio.Task[None]] = set()
        self._moved = False
        """Whether the places of waiting jobs may be others than their messages say."""
        # In the loop's own seconds, which no correction of the clock moves.
        self._look_at = inf
        self._rests_until = 0.0

    async def run(self) -> None:
        """Edit until cancelled."""
        with self._queue.feed.subscribe() as updates:
            for entry in (await self._queue.standing.now()).order:
                await self._follow(entry.id)
            for job_id in self._shown:
                self._mark(job_id)
            pending = asyncio.ensure_future(anext(updates))
            try:
                while True:
                    await asyncio.wait({pending}, timeout=self._pause())
                    update = None
                    if pending.done():
                        update = pending.result()
                        pending = asyncio.ensure_future(anext(updates))
                    try:
                        if update is not None:
                            await self._take(update)
                        if self._pause() == 0:
                            await self._edit_due()
                    except Exception:
                        # Progress may always be lost; the bot must not be.
                        log.exception("the progress could not be shown")
                        self._look_at = _now() + RUNNING_PACE_S
            finally:
                pending.cancel()

    async def finish(self, job_id: str) -> None:
        """Stop editing an ended job's message; return when no edit of it is in flight."""
        shown = self._shown.pop(job_id, None)
        self._dirty.discard(job_id)
        if shown is None or shown.edit is None:
            return
        _, late = await asyncio.wait({shown.edit}, timeout=_PATIENCE_S)
        for task in late:
            task.cancel()
            await asyncio.wait({task})

    async def _take(self, update: JobUpdate) -> None:
        if update.kind == "moved":
            self._moved = True
            # Which of the messages are due by then, the look will find.
            self._look_at = min(self._look_at, _now() + SLOW_PACE_S)
        elif update.kind == "final":
            # Only `finish` lets go of it, since an edit may be in flight that it has to wait for.
            self._dirty.discard(update.job_id)
            shown = self._shown.get(update.job_id)
            if shown is not None:
                shown.ended = True
        elif await self._follow(update.job_id):
            shown = self._shown[update.job_id]
            if shown.ended:
                return
            shown.latest = None if update.kind == "queued" else update
            if update.kind not in {"step", "preview"}:
                shown.first_step = None
            elif shown.first_step is None:
                shown.first_step = update.step, _now()
            if update.preview is not None:
                shown.preview = update.preview
            elif update.kind in {"queued", "running", "loading"}:
                shown.preview = None  # Another attempt begins.
            self._mark(update.job_id)

    def _mark(self, job_id: str) -> None:
        """Note that a message may have to change."""
        self._dirty.add(job_id)
        next_edit_at = self._shown[job_id].next_edit_at(self._waiting_pace_s())
        self._look_at = min(self._look_at, next_edit_at)

    def _waiting_pace_s(self) -> float:
        return max(WAITING_PACE_S, len(self._shown) / WAITING_EDITS_A_SECOND)

    async def _follow(self, job_id: str) -> bool:
        """Load what is needed to edit a job's message; tell whether there is one."""
        if job_id in self._shown:
            return True
        delivery = await self._database.read(partial(deliveries.get, job_id=job_id))
        # The job last: nothing is awaited between seeing that it goes on and following it, so that
        # `finish` cannot come in between.
        job = await self._queue.job(job_id)
        if job is None or job.state.final or delivery is None:
            return False
        if delivery.target not in BY_DISCORD:
            return False
        edited_at = _now() if job.state is JobState.QUEUED else -inf
        self._shown[job_id] = _Shown(job, delivery, edited_at=edited_at)
        return True

    def _pause(self) -> float | None:
        """Return the seconds until an edit may be due, or None to wait for news."""
        look_at = max(self._look_at, self._rests_until)
        return None if isinf(look_at) else max(0.0, look_at - _now())

    async def _edit_due(self) -> None:
        now = _now()
        if self._breaker.open:
            # What changes until then is shown together.
            self._look_at = now + WAITING_PACE_S
            return
        self._look_at = inf
        if self._moved:
            self._moved = False
            self._dirty |= {job_id for job_id, shown in self._shown.items() if not shown.running}
        pace_s = self._waiting_pace_s()
        places: Mapping[str, QueuePlace] | None = None
        waited_s = 0.0
        for job_id in list(self._dirty):
            if len(self._edits) >= _AT_ONCE:
                self._look_at = min(self._look_at, now + SLOW_PACE_S)
                break
            shown = self._shown.get(job_id)
            if shown is None or shown.ended:
                self._dirty.discard(job_id)
            elif shown.next_edit_at(pace_s) > now or (shown.edit and not shown.edit.done()):
                # A slow edit is not followed by another; this looks again when it may be.
                look_at = max(shown.next_edit_at(pace_s), now + SLOW_PACE_S)
                self._look_at = min(self._look_at, look_at)
            else:
                self._dirty.discard(job_id)
                if places is None and not shown.running:
                    began = _now()
                    places = (await self._queue.standing.now()).places
                    waited_s = _now() - began
                with speaking(shown.job.locale):
                    text = self._text(shown, (places or {}).get(job_id))
                if (
                    text
                    and text != shown.text
                    and self._shown.get(job_id) is shown
                    and not shown.ended
                ):
                    shown.text, shown.edited_at = text, now
                    shown.edit = asyncio.create_task(self._edit(shown))
                    self._edits.add(shown.edit)
                    shown.edit.add_done_callback(self._edits.discard)
        ended = _now()
        self._rests_until = ended + (ended - now - waited_s) * _REST

    def _text(self, shown: _Shown, place: QueuePlace | None) -> str:
        if shown.latest is not None:
            load_s = self._queue.forecast.load_s if shown.latest.kind == "loading" else None
            return progress_status(shown.latest, load_s=load_s, left_s=shown.left_s())
        if place is None:
            return ""
        start = self._queue.forecast.awaited(shown.job)
        return waiting_status(place, self._queue.control.paused, start)

    async def _edit(self, shown: _Shown) -> None:
        request = shown.job.request
        with job_context(shown.job.id, request.prompt, request.negative_prompt):
            await self._acknowledgements.wait(shown.delivery.source_id)
            speak(shown.job.locale)
            preview = shown.preview if shown.previews else None
            if preview is not None and not await self._visibility.shows_unfinished(shown.job):
                preview = None
            model = self._queue.models.shown(shown.job)
            card = progress(shown.job, shown.text, preview, model=model)
            by_token = token_lives(shown.delivery, self._clock())
            try:
                async with asyncio.timeout(_EDIT_LIMIT_S):
                    await self._send(shown, card, by_token=by_token)
            except Exception as error:  # noqa: BLE001
                # A progress edit may always be lost; the outcome has its own durable retry.
                explained = explain(error, by_token=by_token)
                if preview is not None and not isinstance(explained, RetryLaterError):
                    # Too large, or no right to attach files: the words alone may still go.
                    shown.previews = False
                    return
                log.debug("progress edit failed: %s", type(explained).__name__)
                if isinstance(explained, RetryLaterError) and explained.after_s:
                    shown.edited_at = _now() + explained.after_s
                if isinstance(explained, RungClosedError):
                    closed = {"token": None} if by_token else {"bot_in_channel": False}
                    shown.delivery = replace(shown.delivery, **closed)

    async def _send(self, shown: _Shown, card: Card, *, by_token: bool) -> None:
        if by_token:
            await self._ladder.edit_by_token(shown.delivery, card)
            return
        if shown.delivery.message_id is None:
            shown.delivery = await self._reload(shown.delivery)
        young = self._clock() - shown.job.created_at < _OLDEST_S
        if young and shown.delivery.message_id and shown.delivery.public:
            await self._ladder.edit_by_bot(shown.delivery, card)

    async def _reload(self, delivery: Delivery) -> Delivery:
        fresh = await self._database.read(partial(deliveries.get, job_id=delivery.job_id))
        return fresh or delivery
