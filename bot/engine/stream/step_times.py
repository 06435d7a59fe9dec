"""The pace of steps: one that is suddenly many times slower than the same work was before.

Where a card's memory is overbooked, Windows' driver moves parts of it to main memory in silence
instead of refusing, and a step takes 5 to 20 times as long. Nothing else tells of it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

# Streaming every block instead of none takes a step up to 3 times as long.
_TIMES: Final = 5.0
_LEAST_S: Final = 1.0
_KINDS_KEPT: Final = 64


class StepTimes:
    """The shortest step of each kind of work so far, in seconds."""

    def __init__(self) -> None:
        self._best: dict[Hashable, float] = {}

    def usual(self, kind: Hashable) -> float | None:
        """Return the seconds of a step of this kind when nothing held it up; None: not known."""
        return self._best.get(kind)

    def is_slow(self, kind: Hashable, seconds: float) -> bool:
        """Note a step; tell whether it took many times as long as one of its kind has taken."""
        best = self._best.get(kind)
        if best is None or seconds < best:
            self._best[kind] = seconds
            while len(self._best) > _KINDS_KEPT:
                del self._best[next(iter(self._best))]
            return False
        return seconds > _TIMES * best and seconds - best > _LEAST_S
