"""Statistics of use: jobs a day, waiting times, use of the GPU, shares."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bot.rules.limits import DAY_S
from storage import statistics
from storage.database import Database, Transaction
from storage.statistics import DayCount, LastFault

__all__ = ["Condition", "DayCount", "Figures", "Statistics"]

PERCENTILES: Final = (50, 75, 90, 95, 99)
HOURS: Final = 24
MOST_USERS: Final = 6
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Figures:
    """What the statistics show; all days and hours are UTC."""

    days: list[DayCount]
    """Every day of the period, oldest first, those without jobs too."""
    waits: dict[int, float]
    """Seconds by percentile; empty where nothing was started."""
    hours: list[float]
    """Share of the GPU's time (0 to 1) in each of the last 24 hours, oldest first."""
    first_hour: int
    """The hour of the day (0 to 23) that `hours` begins with."""
    shares: list[tuple[int | None, float]]
    """User and share of the GPU seconds (0 to 1), most first; None stands for all the others."""

    @property
    def total(self) -> int:
        """All jobs of the period."""
        return sum(day.total for day in self.days)


@dataclass(frozen=True, slots=True)
class Condition:
    """What the database knows of the engine."""

    fault: LastFault | None
    peak_gpu_bytes: int | None


class Statistics:
    """Reads figures; `guild_id` None means the whole bot."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def figures(self, guild_id: int | None, days: int) -> Figures:
        """Return the figures of the last `days` days, today included."""
        now = self._clock()
        today = datetime.fromtimestamp(now, UTC).date()
        wanted = [(today - timedelta(days=back)).isoformat() for back in range(days - 1, -1, -1)]
        since = now - now % DAY_S - (days - 1) * DAY_S

        async def read(tx: Transaction) -> Figures:
            # Day by day: one query over a long period would hold others up.
            begins = [(day, since + number * DAY_S) for number, day in enumerate(wanted)]
            counts = [await statistics.jobs_of_day(tx, guild_id, *day) for day in begins]
            spent = Counter[int]()
            for _, day_begins in begins:
                spent.update(await statistics.spent_on_day(tx, guild_id, day_begins))
            first = (now // _HOUR_S - HOURS + 1) * _HOUR_S
            return Figures(
                counts,
                percentiles(await statistics.waits(tx, guild_id, since)),
                by_hour(await statistics.busy(tx, guild_id, first), first),
                int(first % DAY_S // _HOUR_S),
                _shares(sorted(spent.items(), key=lambda item: (-item[1], item[0]))),
            )

        return await self._database.read(read)

    async def condition(self) -> Condition:
        """Return the engine's last fault and what its last picture took."""

        async def read(tx: Transaction) -> Condition:
            return Condition(await statistics.last_fault(tx), await statistics.last_peak(tx))

        return await self._database.read(read)


def percentiles(ordered: Sequence[float]) -> dict[int, float]:
    """Return the nearest-rank percentiles of values in rising order."""
    count = len(ordered)
    return (
        {p: ordered[max(0, math.ceil(count * p / 100) - 1)] for p in PERCENTILES} if count else {}
    )


def by_hour(busy: Iterable[tuple[float, float]], first: float) -> list[float]:
    """Spread (end, seconds) over the hours from `first` on; return each hour's share of 1."""
    hours = [0.0] * HOURS
    for end, seconds in busy:
        start = end - seconds
        for index in range(HOURS):
            begins = first + index * _HOUR_S
            hours[index] += max(0.0, min(end, begins + _HOUR_S) - max(start, begins))
    return [min(1.0, seconds / _HOUR_S) for seconds in hours]


def _shares(users: Sequence[tuple[int, float]]) -> list[tuple[int | None, float]]:
    total = sum(seconds for _, seconds in users)
    shares: list[tuple[int | None, float]] = [
        (user_id, seconds / total) for user_id, seconds in users[:MOST_USERS]
    ]
    if rest := sum(seconds for _, seconds in users[MOST_USERS:]):
        shares.append((None, rest / total))
    return shares
