"""The clock's watch: what waits for a time is put right when the clock is set."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from storage.clock import move_waits, put_stamps_right
from storage.database import Database, Transaction

log = logging.getLogger(__name__)

_LOOK_S: Final = 10.0
_STEP_S: Final = 1.0
"""Less is what keeping time means, and holds nobody up."""


def steady() -> float:
    """Return seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ClockWatch:
    """Compares the wall clock with one that nobody sets (`timer`), both in seconds."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = steady,
    ) -> None:
        self._database = database
        self._clock = clock
        self._timer = timer
        self._at = (clock(), timer())

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("the clock could not be looked after; tried again")

    async def look(self) -> float:
        """Put right what a step of the clock spoiled since the last look; return its seconds."""
        now, timer = self._clock(), self._timer()
        step = (now - self._at[0]) - (timer - self._at[1])
        if abs(step) > _STEP_S:

            async def put_right(tx: Transaction) -> None:
                await move_waits(tx, step)
                await put_stamps_right(tx, now)

            await self._database.write(put_right, first=True)
            log.warning(
                "the clock was set %s by %.0f s", "ahead" if step > 0 else "back", abs(step)
            )
        self._at = (now, timer)
        return step
