"""Figures over the tables `jobs` and `usage`: of all servers, or of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storage.database import Transaction


@dataclass(frozen=True, slots=True)
class DayCount:
    """Jobs that draw and came on one day (UTC, `YYYY-MM-DD`), by what became of them."""

    day: str
    generated: int
    failed: int
    cancelled: int
    open: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.generated + self.failed + self.cancelled + self.open


@dataclass(frozen=True, slots=True)
class LastFault:
    """The newest fault of the engine under a job."""

    job_id: str
    at: float
    detail: str


# Percentiles of more would not look any different.
WAITS: Final = 20_000


async def jobs_of_day(tx: Transaction, guild_id: int | None, day: str, since: float) -> DayCount:
    """Return what came of the jobs that came on `day`, which begins at `since` (Unix seconds).

    Of those that draw; texts are none.
    """
    row = await tx.one(
        "SELECT sum(state = 'generated'), sum(state = 'failed'), sum(state = 'cancelled'),"
        " sum(state IN ('queued', 'running')) FROM jobs"
        " WHERE created_at >= ?2 AND created_at < ?2 + 86400 AND (?1 IS NULL OR guild_id = ?1)"
        " AND kind = 'picture'",
        (guild_id, since),
    )
    assert row
    return DayCount(day, *(count or 0 for count in row))


async def waits(tx: Transaction, guild_id: int | None, since: float) -> list[float]:
    """Return the seconds that jobs waited before they were (last) started, shortest first.

    Of the newest `WAITS` jobs that draw and came after `since`.
    """
    rows = await tx.all(
        "SELECT waited FROM (SELECT max(0, started_at - created_at) AS waited FROM jobs"
        " WHERE created_at >= ?2 AND started_at IS NOT NULL AND (?1 IS NULL OR guild_id = ?1)"
        " AND kind = 'picture'"
        " ORDER BY created_at DESC LIMIT ?3) ORDER BY waited",
        (guild_id, since, WAITS),
    )
    return [row[0] for row in rows]


async def busy(tx: Transaction, guild_id: int | None, since: float) -> list[tuple[float, float]]:
    """Return (end in Unix time, seconds of the GPU) of what was drawn after `since`.

    The ledger knows it by itself: the job may be deleted, or wait again after a fault.
    """
    rows = await tx.all(
        "SELECT served_at, gpu_seconds FROM usage"
        " WHERE gpu_seconds > 0 AND served_at >= ?2 AND (?1 IS NULL OR guild_id = ?1)",
        (guild_id, since),
    )
    return [(row[0], row[1]) for row in rows]


async def spent_on_day(tx: Transaction, guild_id: int | None, since: float) -> dict[int, float]:
    """Return seconds of the GPU by user, of what was asked for in the 24 hours from `since` on."""
    rows = await tx.all(
        "SELECT user_id, sum(gpu_seconds) AS seconds FROM usage"
        " WHERE charged_at >= ?2 AND charged_at < ?2 + 86400 AND (?1 IS NULL OR guild_id = ?1)"
        " GROUP BY user_id HAVING seconds > 0",
        (guild_id, since),
    )
    return {row[0]: row[1] for row in rows}


async def last_fault(tx: Transaction) -> LastFault | None:
    """Return the newest fault of the engine among the newest jobs."""
    row = await tx.one(
        "SELECT id AS job_id, coalesce(finished_at, started_at, created_at) AS at,"
        " coalesce(error_detail, '') AS detail FROM"
        " (SELECT * FROM jobs ORDER BY created_at DESC LIMIT 1000)"
        " WHERE engine_faults > 0 AND error_detail IS NOT NULL ORDER BY at DESC LIMIT 1"
    )
    if row is None:
        return None
    return LastFault(**dict(row))


async def last_peak(tx: Transaction) -> int | None:
    """Return the most bytes of GPU memory that the last picture took; None on a CPU."""
    return await tx.value(
        "SELECT peak_gpu_bytes FROM jobs WHERE finished_at IS NOT NULL AND state = 'generated'"
        " AND kind = 'picture' ORDER BY finished_at DESC LIMIT 1"
    )
