"""Removals: the messages that waited go once the answer stands, recorded, in a new one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bot.delivery.breaker import CircuitBreaker
from bot.delivery.errors import RetryLaterError, RungClosedError
from bot.delivery.ladder import Ladder
from bot.logs import job_context
from storage import deliveries
from storage.clock import LONGEST_PAUSE_S
from storage.database import Database
from storage.deliveries import Delivery

log = logging.getLogger(__name__)

_AT_ONCE: Final = 10
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 600.0
_GIVEN_UP_S: Final = 86_400.0
# The clock may have been put back since a removal was put off.
_LOOK_S: Final = 60.0
# A request that Discord does not answer must not hold up the other removals.
_PATIENCE_S: Final = 30.0


class Removals:
    """Removes what the database names; what is not removed now is due again, also after a restart.

    Deleting a message twice is harmless, so that nothing is recorded before.
    """

    def __init__(
        self,
        database: Database,
        ladder: Ladder,
        breaker: CircuitBreaker,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ladder = ladder
        self._breaker = breaker
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for what is due now."""
        self._wake.set()

    async def run(self) -> None:
        """Remove until cancelled."""
        while True:
            self._wake.clear()
            try:
                pause = await self._remove_due()
            except Exception:
                log.exception("messages could not be removed; trying again")
                pause = _FIRST_RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _remove_due(self) -> float | None:
        """Remove what is due; return the seconds until something else is."""
        if self._breaker.open:
            return max(_FIRST_RETRY_S, self._breaker.probe_in_s)
        due, next_at = await self._database.read(
            partial(deliveries.removals, now=self._clock(), limit=_AT_ONCE)
        )
        for delivery in due:
            with job_context(delivery.job_id):
                try:
                    await self._remove(delivery)
                except Exception:  # So that one does not keep the others from being removed.
                    log.exception("a message could not be removed; trying again")
                    await self._put_off(delivery, _LONGEST_RETRY_S)
        if due:
            return 0
        return None if next_at is None else min(_LOOK_S, max(0.05, next_at - self._clock()))

    async def _remove(self, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ladder.remove(delivery)
        except (RetryLaterError, TimeoutError) as error:
            age = self._clock() - (delivery.delivered_at or 0.0)
            if age < _GIVEN_UP_S:
                after_s = error.after_s if isinstance(error, RetryLaterError) else None
                pause = min(max(age, _FIRST_RETRY_S), _LONGEST_RETRY_S)
                pause = min(max(pause, after_s or 0.0), LONGEST_PAUSE_S)
                log.info("the message that waited is removed in %.0f s (%s)", pause, error)
                await self._put_off(delivery, pause)
                return
            log.info("the message that waited stays (%s)", error)
        except RungClosedError as error:
            # It may be gone: whoever asked can delete it too.
            log.info("the message that waited is not there to be removed (%s)", error)
        await self._database.write(partial(deliveries.removed, job_id=delivery.job_id), first=True)

    async def _put_off(self, delivery: Delivery, pause: float) -> None:
        at = self._clock() + pause
        await self._database.write(
            partial(deliveries.remove_later, job_id=delivery.job_id, at=at), first=True
        )
