"""The courier: takes ended jobs from the outbox and sees that each gets its one answer."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.errors import (
    REFUSED_PAUSE_S,
    RetryLaterError,
    RungClosedError,
    TooLargeError,
)
from bot.delivery.ladder import Ladder, Rung, Sent, rungs
from bot.delivery.progress import ProgressEditor
from bot.delivery.visibility import DIRECT, ShownIn, Visibility, why
from bot.domain.job import ImageRecord, Job
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.queue import JobQueue
from bot.logs import hide, job_context
from bot.messages.card import Card
from bot.messages.outcome import broken, elsewhere, moved, outcome, picked, withheld
from bot.messages.text import plain
from bot.messages.upload import FILE_LIMIT, Upload, fit, fit_png, upload_limit
from bot.pictures.grid import make_grid
from bot.rules.verdicts import Exposure
from bot.words import _, speak
from storage import deliveries
from storage.database import Database
from storage.deliveries import Delivery, noted
from storage.images import ImageStore

log = logging.getLogger(__name__)

T = TypeVar("T")

# What Pillow raises for a damaged file, besides its absence.
_BROKEN: Final = (OSError, SyntaxError, ValueError)

_AT_ONCE: Final = 4
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 600.0
# About a day and a half of the longest pauses; what Discord refuses that long is kept instead.
_MOST_ATTEMPTS: Final = 200
_LAST_MOMENT_S: Final = 3.0
_SMALLEST_LIMIT: Final = 256 * 1024
_UNEXPECTED: Final = "unexpected"
# After so many faults that nobody foresaw, a plain sentence is sent; after twice as many, nothing.
_MOST_UNEXPECTED: Final = 5


class Courier:
    """Sends due answers, several at a time, one attempt a job at a time."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        store: ImageStore,
        ladder: Ladder,
        progress: ProgressEditor,
        acknowledgements: Acknowledgements,
        gate: Visibility,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._store = store
        self._ladder = ladder
        self._progress = progress
        self._acknowledgements = acknowledgements
        self._gate = gate
        self._clock = clock
        self._wake = asyncio.Event()
        self._attempted = asyncio.Condition()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._scrubbed = False

    async def run(self) -> None:
        """Deliver until cancelled; attempts in flight are given a moment to end then."""
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                self._wake.clear()
                try:
                    pause = await self._start_due()
                except Exception:
                    log.exception("the outbox could not be read; trying again")
                    pause = _FIRST_RETRY_S
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            listener.cancel()
            tasks = [listener, *self._busy.values()]
            _, late = await asyncio.wait(tasks, timeout=_LAST_MOMENT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        with self._queue.feed.subscribe() as updates:
            async for update in updates:
                if update.kind == "final":
                    self._wake.set()

    async def _start_due(self) -> float | None:
        """Start what is due; return the seconds until something else is."""
        now = self._clock()
        room = _AT_ONCE - len(self._busy)
        outlook = await self._database.read(
            partial(deliveries.outlook, now=now, limit=room, busy=self._busy.keys())
        )
        for delivery in outlook.due:
            self._busy[delivery.job_id] = asyncio.create_task(self._deliver_safely(delivery))
        if outlook.next_expiry_at is not None:
            self._scrubbed = False
        if outlook.next_expiry_at is not None and outlook.next_expiry_at <= now:
            await self._database.write(partial(deliveries.forget_expired_tokens, now=now))
            return 0
        if outlook.next_expiry_at is None and not self._scrubbed:
            # No token is needed any more: older pages that show one must not stay in the log.
            self._scrubbed = await self._database.scrub()
            if not self._scrubbed:
                return _FIRST_RETRY_S
        times = [at for at in (outlook.next_due_at, outlook.next_expiry_at) if at is not None]
        # An end of any attempt wakes the loop, so only the clock's own dates are waited for.
        return max(0.05, min(times) - now) if times else None

    async def _deliver_safely(self, delivery: Delivery) -> None:
        with job_context(delivery.job_id):
            try:
                await self._deliver(delivery)
            except Exception:
                error_id = secrets.token_hex(3)
                log.exception("unexpected error %s in a delivery; it is tried again", error_id)
                await self._retry_safely(delivery, error_id)
            finally:
                self._busy.pop(delivery.job_id, None)
                self._wake.set()
                async with self._attempted:
                    self._attempted.notify_all()

    async def _deliver(self, delivery: Delivery) -> None:
        await self._acknowledgements.wait(delivery.source_id)
        await self._progress.finish(delivery.job_id)
        job = await self._queue.job(delivery.job_id)
        current = await self._database.read(partial(deliveries.get, job_id=delivery.job_id))
        if job is None or current is None or current.state not in {"pending", "sending"}:
            return
        speak(job.locale)
        hide(job.request.prompt, job.request.negative_prompt)
        trail, stale = current.error, False
        tired = self._tired(current)
        images = await self._queue.images(job.id)
        aside = await self._gate.exposure(job, images, ShownIn.of_job(job)) is Exposure.DM
        if aside:
            await self._ladder.announce(current, elsewhere(job, why(Exposure.DM, images)))
        only = {Rung.DM, Rung.KEPT} if aside else set(Rung)
        for rung in rungs(current, self._clock(), only=only):
            intent_at = await self._database.write(
                partial(deliveries.intend, job_id=job.id, rung=rung, now=self._clock(), error=trail)
            )
            if rung is Rung.KEPT or tired:
                break
            try:
                sent = await self._send(rung, current, job, intent_at)
            except RungClosedError as error:
                trail = noted(trail, rung, str(error))
                stale = stale or (rung is Rung.EDIT and not error.gone)
                log.info("delivery by %s is closed (%s)", rung, error)
                continue
            except RetryLaterError as error:
                await self._retry(current, noted(trail, rung, str(error)), error.after_s)
                return
            await self._database.write(
                partial(
                    deliveries.delivered,
                    job_id=job.id,
                    now=self._clock(),
                    channel_id=sent.channel_id,
                    message_id=sent.message_id,
                )
            )
            log.info("delivered by %s after %.1f s", rung, self._clock() - job.created_at)
            if stale:
                await self._ladder.retire(current, moved(job, sent.channel_id, sent.message_id))
            return
        if tired:
            trail = noted(trail, "given up", tired)
        await self._database.write(partial(deliveries.undeliverable, job_id=job.id, error=trail))
        if aside:
            sentence = _("I cannot write to you, so only `/show` brings this picture.")
            await self._ladder.announce(current, elsewhere(job, sentence))
        log.info("kept for /show (%s)", trail or "nothing to send to")

    def _tired(self, delivery: Delivery) -> str | None:
        """Say why nothing more is tried, or None."""
        broken_down = _unexpected(delivery)[1] >= 2 * _MOST_UNEXPECTED
        if broken_down or delivery.attempts >= _MOST_ATTEMPTS:
            return f"after {delivery.attempts} attempts"
        return None

    async def _send(self, rung: Rung, delivery: Delivery, job: Job, intent_at: float) -> Sent:
        async def send(card: Card) -> Sent:
            return await self._ladder.send(rung, delivery, card, intent_at)

        error_id, faults = _unexpected(delivery)
        if faults >= _MOST_UNEXPECTED:
            return await send(broken(job.id, error_id))
        return await self.fitted(job, send, DIRECT if rung is Rung.DM else ShownIn.of_job(job))

    async def fitted(
        self, job: Job, send: Callable[[Card], Awaitable[T]], place: ShownIn, *, apart: bool = False
    ) -> T:
        """Send the card of an ended job to a place, smaller each time it raises `TooLargeError`.

        The pictures of a batch come as one grid, or with `apart` each as its own file. Raises
        `RungClosedError` where not even the smallest is taken.
        """
        limit = upload_limit(
            job.request.count if apart else 1, self._ladder.file_limit(job.guild_id)
        )
        while True:
            card = await self.card(job, place, limit, apart=apart)
            try:
                return await send(card)
            except TooLargeError as error:
                largest = max((len(upload.data) for upload in card.uploads), default=0)
                limit = min(limit, largest) // 2
                if limit < _SMALLEST_LIMIT:
                    raise RungClosedError(f"too large even when re-encoded ({error})") from error
                log.info("Discord refused the size; re-encoding to at most %d bytes", limit)

    async def card(
        self, job: Job, place: ShownIn, limit: int = FILE_LIMIT, *, apart: bool = False
    ) -> Card:
        """Build the message of an ended job for a place, its pictures of `limit` bytes at most."""
        images = await self._queue.images(job.id)
        exposure = await self._gate.exposure(job, images, place)
        if exposure in {Exposure.DM, Exposure.BLOCK}:
            return withheld(job, why(exposure, images))
        hidden = why(exposure, images) if exposure is Exposure.SPOILER else ""
        alt = plain(job.request.prompt, 400)
        if len(images) > 1 and not apart:
            try:
                paths = [self._store.path(record) for record in images]
                png = await asyncio.to_thread(make_grid, paths)
            except _BROKEN:
                log.exception("not all of the job's pictures can be read; they come apart")
            else:
                grid = await asyncio.to_thread(fit_png, png, f"{job.id}_grid", alt, limit)
                return outcome(job, [grid], made=len(images), grid=True, hidden=hidden)
        uploads: list[Upload] = []
        for record in images:
            stem = f"{job.id}_{record.position}"
            try:
                uploads.append(
                    await asyncio.to_thread(fit, self._store.path(record), stem, alt, limit)
                )
            except _BROKEN:
                log.exception("picture %d of the job cannot be read", record.position)
        return outcome(job, uploads, made=len(images), hidden=hidden)

    async def exposure(self, job: Job, images: Sequence[ImageRecord], place: ShownIn) -> Exposure:
        """Return how openly these pictures of a job may be shown in a place."""
        return await self._gate.exposure(job, images, place)

    async def single(self, job: Job, image: ImageRecord, place: ShownIn) -> Card:
        """Build the message of one picture of a batch for a place.

        Raises `JobNotFound` without its file, and `NotAllowed` where it may not be shown.
        """
        exposure = await self._gate.exposure(job, [image], place)
        if exposure in {Exposure.DM, Exposure.BLOCK}:
            raise NotAllowed(why(exposure, [image]))
        hidden = why(exposure, [image]) if exposure is Exposure.SPOILER else ""
        stem = f"{job.id}_{image.position}"
        alt = plain(job.request.prompt, 400)
        try:
            upload = await asyncio.to_thread(fit, self._store.path(image), stem, alt)
        except _BROKEN as error:
            log.exception("picture %d of the job cannot be read", image.position)
            raise JobNotFound(_("This picture's file is gone from the bot's disk.")) from error
        return picked(job, image, upload, hidden=hidden)

    async def settled(self, job_id: str) -> Delivery:
        """Return the delivery of a job once it is delivered or kept.

        Raises `JobNotFound`.
        """
        async with self._attempted:
            while True:
                found = await self._database.read(partial(deliveries.get, job_id=job_id))
                if found is None:
                    raise JobNotFound(_("There is no such job."))
                if found.state in {"delivered", "undeliverable"}:
                    return found
                await self._attempted.wait()

    async def kept_for(self, user_id: int) -> list[str]:
        """Return the ids of a user's jobs whose answers could not be sent, newest first."""
        return await self._database.read(partial(deliveries.kept_for, user_id=user_id))

    async def fetched(self, job_id: str) -> None:
        """Note that the user fetched a kept answer; it counts as delivered from now on."""
        await self._database.write(partial(deliveries.fetched, job_id=job_id, now=self._clock()))
        async with self._attempted:
            self._attempted.notify_all()

    async def _retry(
        self, delivery: Delivery, trail: str, after_s: float | None = None, *, attempts: int = 0
    ) -> None:
        pause = min(_FIRST_RETRY_S * 2 ** min(delivery.attempts, 12), _LONGEST_RETRY_S)
        # Full jitter would retry at once sometimes; half keeps the pause meaningful.
        pause *= random.uniform(0.5, 1.0)  # noqa: S311
        pause = max(pause, after_s or 0.0)
        # A refusal of the bot as a whole is something for whoever runs it.
        level = logging.WARNING if pause >= REFUSED_PAUSE_S else logging.INFO
        log.log(level, "delivery postponed by %.0f s (%s)", pause, trail)
        await self._database.write(
            partial(
                deliveries.retry,
                job_id=delivery.job_id,
                next_attempt_at=self._clock() + pause,
                error=trail,
                attempts=attempts,
            )
        )

    async def _retry_safely(self, delivery: Delivery, error_id: str) -> None:
        try:
            faults = _unexpected(delivery)[1] + 1
            trail = noted(delivery.error, _UNEXPECTED, f"{error_id} x{faults}")
            # Counted here too: what fails before the first intent would be tried for ever.
            await self._retry(delivery, trail, attempts=1)
        except Exception:
            log.exception("the delivery's state could not be written; it stays due")
            # Still counted as busy here, so that a failing disk does not make the loop spin.
            await asyncio.sleep(_FIRST_RETRY_S)


def _unexpected(delivery: Delivery) -> tuple[str, int]:
    """Return the id of the last fault that nobody foresaw, and how many there were."""
    _, _, rest = (delivery.error or "").partition(f"{_UNEXPECTED}: ")
    error_id, _, count = rest.partition(";")[0].partition(" x")
    return error_id, int(count or 0)
