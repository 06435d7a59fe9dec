"""The sandbox's clock: real time that tests may move forward, with timers that follow it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Timer:
    """One pending call; `cancel` forgets it."""

    due: float
    call: Callable[[], None]
    pending: set[Timer]
    handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Forget the call; harmless once it was made."""
        self.pending.discard(self)
        if self.handle is not None:
            self.handle.cancel()


class Clock:
    """Unix seconds from `source`, plus whatever `advance` added."""

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset = 0.0
        self._timers: set[Timer] = set()

    def now(self) -> float:
        """Return the present Unix time in seconds."""
        return self._source() + self._offset

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Make `call` once `delay` seconds of this clock have passed."""
        timer = Timer(self.now() + delay, call, self._timers)
        self._timers.add(timer)
        self._arm(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock forward; calls that fall due are made before this returns."""
        self._offset += seconds
        for timer in sorted(self._timers, key=lambda timer: timer.due):
            if timer not in self._timers:
                continue  # an earlier one cancelled it
            if timer.handle is not None:
                timer.handle.cancel()
            if timer.due <= self.now():
                self._fire(timer)
            else:
                self._arm(timer)

    def close(self) -> None:
        """Forget every pending call."""
        for timer in list(self._timers):
            timer.cancel()

    def _arm(self, timer: Timer) -> None:
        delay = max(0.0, timer.due - self.now())
        timer.handle = asyncio.get_running_loop().call_later(delay, self._fire, timer)

    def _fire(self, timer: Timer) -> None:
        self._timers.discard(timer)
        timer.call()
