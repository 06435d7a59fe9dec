"""The pace at which something may go on: so many at once, and so many a second after that."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """A bucket of `burst` turns, into which `rate` come back each second.

    `clock` tells seconds, monotonically.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """Take a turn; return False, and take none, where none is left."""
        self._refill()
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait_s(self) -> float:
        """Return the seconds until there is a turn."""
        self._refill()
        return max(0.0, (1.0 - self._left) / self._rate)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(float(self._burst), self._left + (now - self._at) * self._rate)
        self._at = now
