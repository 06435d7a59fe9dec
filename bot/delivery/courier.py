"""The courier: takes ended jobs from the outbox and sees that each gets its one answer."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.alt_texts import AltTexts
from bot.delivery.breaker import CircuitBreaker
from bot.delivery.card_maker import CardMaker
from bot.delivery.errors import (
    REFUSED_PAUSE_S,
    RetryLaterError,
    RungClosedError,
    is_filtered,
)
from bot.delivery.ladder import BY_NEW_MESSAGE, POSTED, Ladder, Rung, Sent, after, rungs
from bot.delivery.notice import Notices
from bot.delivery.progress import ProgressEditor
from bot.delivery.removal import Removals
from bot.delivery.visibility import DIRECT, ShownIn, why
from bot.domain.job import DeliveryState, Job
from bot.domain.request import secrets_of
from bot.domain.writing import Writing
from bot.errors import JobNotFound
from bot.jobs.queue import JobQueue
from bot.logs import hide, job_context
from bot.messages.card import Card
from bot.messages.command_mentions import linked
from bot.messages.outcome import broken, elsewhere, kept, moved
from bot.rules.verdicts import Exposure
from bot.words import _, mark, speak
from storage import deliveries
from storage.clock import LONGEST_PAUSE_S
from storage.database import Database
from storage.deliveries import Delivery, noted

log = logging.getLogger(__name__)

_DUE: Final = frozenset({DeliveryState.PENDING, DeliveryState.SENDING})
_SETTLED: Final = frozenset({DeliveryState.DELIVERED, DeliveryState.UNDELIVERABLE})
_AT_ONCE: Final = 4
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 600.0
# About a day and a half of the longest pauses; what Discord refuses that long is kept instead.
_MOST_ATTEMPTS: Final = 200
_LAST_MOMENT_S: Final = 3.0
# So long it is tried to say on its message that an answer is kept, before it counts as that.
_ANNOUNCED_FOR_S: Final = 900.0
_KEPT: Final = mark("⚠️ This answer could not be sent. It is kept: `/show` brings it to you.")
_KEPT_BY_FILTERS: Final = mark(
    "🚫 Discord's own filters refused this answer. It is kept: try `/show`, which only you see."
)
_KEPT_ASIDE: Final = mark("I cannot write to you, so only `/show` brings this picture.")
_LOOK_S: Final = 60.0
_UNEXPECTED: Final = "unexpected"
# After so many faults that nobody foresaw, a plain sentence is sent; after twice as many, nothing.
_MOST_UNEXPECTED: Final = 5


class Courier:
    """Sends due answers, several at a time, but only one attempt per job at a time."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        cards: CardMaker,
        ladder: Ladder,
        progress: ProgressEditor,
        acknowledgements: Acknowledgements,
        breaker: CircuitBreaker,
        notices: Notices,
        removals: Removals,
        alt_texts: AltTexts,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._cards = cards
        self._ladder = ladder
        self._progress = progress
        self._acknowledgements = acknowledgements
        self._breaker = breaker
        self._notices = notices
        self._removals = removals
        self._alt_texts = alt_texts
        self._clock = clock
        self._wake = asyncio.Event()
        self._attempted = asyncio.Condition()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._scrubbed = False

    async def run(self) -> None:
        """Deliver until cancelled; attempts in flight are given a moment to end then."""
        listener = asyncio.create_task(self._listen())
        removals = asyncio.create_task(self._removals.run())
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
            removals.cancel()
            tasks = [listener, removals, *self._busy.values()]
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
        held_s = self._breaker.probe_in_s
        at_once = 1 if self._breaker.open else _AT_ONCE
        room = 0 if held_s else max(0, at_once - len(self._busy))
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
        pauses = [
            at - now for at in (outlook.next_due_at, outlook.next_expiry_at) if at is not None
        ]
        if held_s:
            pauses.append(held_s)
        # The end of any attempt wakes the loop, so only the clock's own dates are waited for.
        # Not for long, since the clock may have been put back since they were set.
        return min(_LOOK_S, max(0.05, min(pauses))) if pauses else None

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
        if job is None or current is None or current.state not in _DUE:
            return
        speak(job.locale)
        hide(*secrets_of(job.request), job.text or "")
        trail, tired = current.error, _tired(current)
        if job.request.writes == Writing.ALT:
            if later := await self._alt_texts.add(current, job, tired):
                await self._retry(current, noted(trail, Rung.EDIT, str(later)), later.after_s)
            return
        images = await self._queue.images(job.id)
        exposure = await self._cards.exposure(job, images, ShownIn.of_job(job))
        aside = exposure is Exposure.DM
        if aside:
            await self._announce(current, elsewhere(job, why(Exposure.DM, images)))
        only = {Rung.DM, Rung.KEPT} if aside else set(Rung)
        intent_at = self._clock()
        wanted = await self._notices.wanted(job, current, intent_at)
        for rung in rungs(current, intent_at, wanted, only=only):
            if rung not in only:
                continue
            intended = await self._database.write(
                partial(
                    deliveries.intend, job_id=job.id, rung=rung, now=self._clock(), error=trail
                ),
                first=True,
            )
            if intended is None:
                return
            intent_at = intended
            if rung is Rung.KEPT or tired:
                break
            try:
                sent = await self._send(rung, current, job, intent_at)
            except RungClosedError as error:
                trail = noted(trail, rung, str(error))
                log.info("delivery by %s is closed (%s)", rung, error)
                only &= after(rung, error)
                continue
            except RetryLaterError as error:
                await self._retry(current, noted(trail, rung, str(error)), error.after_s)
                return
            if await self._record(rung, current, job, sent):
                await self._notices.send(wanted, rung, job, current, sent)
                # Its own message was left, now or in an earlier pass, and still says that it waits.
                if not (aside or rung in BY_NEW_MESSAGE or _is_own(current, sent)):
                    card = moved(job, sent.channel_id, sent.message_id)
                    await self._announce(current, card, trail)
                await self._alt_texts.ask(
                    *(job, images, sent),
                    editable=exposure not in {Exposure.DM, Exposure.BLOCK}
                    and (current.public or rung in POSTED),
                )
            return
        if tired:
            trail = noted(trail, "given up", tired)
        at_hand = _KEPT_BY_FILTERS if is_filtered(trail or "") else _KEPT
        later = await self._announce(
            current, kept(job, linked(_(_KEPT_ASIDE if aside else at_hand))), trail
        )
        if later is not None and not tired and self._clock() - intent_at < _ANNOUNCED_FOR_S:
            await self._retry(current, trail or "", later.after_s)
            return
        await self._database.write(
            partial(deliveries.undeliverable, job_id=job.id, error=trail), first=True
        )
        log.info("kept for /show (%s)", trail or "nothing to send to")

    async def _record(self, rung: Rung, delivery: Delivery, job: Job, sent: Sent) -> bool:
        """Record that the answer is there; tell whether it stays, or was deleted meanwhile."""
        stays = await self._database.write(
            partial(
                deliveries.delivered,
                job_id=job.id,
                now=self._clock(),
                channel_id=sent.channel_id,
                message_id=sent.message_id,
                remove=rung in BY_NEW_MESSAGE,
            ),
            first=True,
        )
        self._removals.wake()
        if stays:
            log.info("delivered by %s after %.1f s", rung, self._clock() - job.created_at)
        else:
            await self._take_back(rung, delivery, sent)
        return stays

    async def _take_back(self, rung: Rung, delivery: Delivery, sent: Sent) -> None:
        """Delete an answer whose job was deleted while it was sent."""
        log.info("the job was deleted while its answer was sent by %s: taken back", rung)
        try:
            await self._ladder.take_back(rung, delivery, sent)
        except (RungClosedError, RetryLaterError) as error:
            log.warning("the answer of a deleted job may still be there (%s)", error)

    async def _announce(
        self, delivery: Delivery, card: Card, trail: str | None = None
    ) -> RetryLaterError | None:
        """Show where the answer is on the job's own message; return why that is to be tried again.

        Never raises: the answer itself does not depend on it.
        """
        if _is_gone(trail):
            return None
        try:
            await self._ladder.announce(delivery, card)
        except RetryLaterError as error:
            log.info("the job's message stays as it is for now: %s", error)
            return error
        except Exception:
            log.exception("the job's message stays as it is")
        return None

    async def _send(self, rung: Rung, delivery: Delivery, job: Job, intent_at: float) -> Sent:
        async def send(card: Card) -> Sent:
            return await self._ladder.send(rung, delivery, card, intent_at)

        error_id, faults = _unexpected(delivery)
        if faults >= _MOST_UNEXPECTED:
            return await send(broken(job.id, error_id))
        return await self._cards.fitted(
            job, send, DIRECT if rung in {Rung.DIRECT, Rung.DM} else ShownIn.of_job(job)
        )

    async def settled(self, job_id: str) -> Delivery:
        """Return the delivery of a job once it is delivered or kept.

        Raises `JobNotFound`.
        """
        async with self._attempted:
            while True:
                found = await self._database.read(partial(deliveries.get, job_id=job_id))
                if found is None:
                    raise JobNotFound(_("There is no such job."))
                if found.state in _SETTLED:
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
        pause = min(max(pause, after_s or 0.0), LONGEST_PAUSE_S)
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
            ),
            first=True,
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


def _tired(delivery: Delivery) -> str | None:
    """Say why nothing more is tried, or None."""
    broken_down = _unexpected(delivery)[1] >= 2 * _MOST_UNEXPECTED
    if broken_down or delivery.attempts >= _MOST_ATTEMPTS:
        return f"after {delivery.attempts} attempts"
    return None


def _is_own(delivery: Delivery, sent: Sent) -> bool:
    """Tell whether an answer is, or may be, on the job's own message."""
    if sent.channel_id != delivery.channel_id:
        return False
    return delivery.message_id in {None, sent.message_id}


def _is_gone(trail: str | None) -> bool:
    """Tell whether an edit has found that the job's message does not exist any more."""
    return any(entry.startswith(f"{Rung.EDIT}: 404 ") for entry in (trail or "").split("; "))


def _unexpected(delivery: Delivery) -> tuple[str, int]:
    """Return the id of the last fault that nobody foresaw, and how many there were."""
    _, _, rest = (delivery.error or "").partition(f"{_UNEXPECTED}: ")
    error_id, _, count = rest.partition(";")[0].partition(" x")
    return error_id, int(count or 0)
