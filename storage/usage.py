"""The ledger `usage`: what was charged to whom, and the GPU's seconds really spent.

A charge is in pictures and in expected GPU seconds; a refund gives a share of both back. What the
GPU really spent stands beside it and is never given back: the fair order counts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from storage.clock import AHEAD_S
from storage.database import Transaction


class QuotaScope(StrEnum):
    """Whose charges count together."""

    USER = "user"
    MEMBER = "member"
    """A user's within one server."""
    DIRECT = "direct"
    """A user's outside of servers."""
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Charge:
    """What is charged at one time (Unix seconds), or in all, less what was given back."""

    at: float
    images: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Window:
    """The `seconds` before `now` (Unix seconds), and a moment after it."""

    now: float
    seconds: float

    def params(self) -> dict[str, float]:
        """Return the ends, `since` and `until`, for SQL."""
        return {"since": self.now - self.seconds, "until": self.now + AHEAD_S}


@dataclass(frozen=True, slots=True)
class Served:
    """GPU seconds spent, by user and by server; 0 stands for all that is outside of servers."""

    users: dict[int, float] = field(default_factory=dict[int, float])
    servers: dict[int, float] = field(default_factory=dict[int, float])


# The plus keeps SQLite from going through all of a large server by its index.
_IN_SCOPE: Final = {
    QuotaScope.USER: "user_id = :user_id",
    QuotaScope.MEMBER: "user_id = :user_id AND +guild_id = :guild_id",
    QuotaScope.DIRECT: "user_id = :user_id AND +guild_id IS NULL",
    QuotaScope.SERVER: "guild_id = :guild_id",
}
# What lies ahead of now by more than a moment was stamped by a clock that was wrong.
_COUNTED: Final = "charged_at > :since AND charged_at <= :until AND refunded < 1"
_IMAGES: Final = "images * (1 - refunded)"
_SECONDS: Final = "charged_seconds * (1 - refunded)"

# The index `jobs_open` is partial: SQLite uses it only where its own condition is repeated.
SERVED: Final = """
WITH recent AS (
    SELECT user_id, coalesce(guild_id, 0) AS server, gpu_seconds FROM usage
    WHERE served_at > :since AND served_at <= :until
), waiting AS (
    SELECT user_id, coalesce(guild_id, 0) AS server FROM jobs
    WHERE state IN ('queued', 'running') AND state = 'queued'
)
SELECT user_id, NULL, sum(gpu_seconds) FROM recent
WHERE user_id IN (SELECT user_id FROM waiting) GROUP BY user_id
UNION ALL
SELECT NULL, server, sum(gpu_seconds) FROM recent
WHERE server IN (SELECT server FROM waiting) GROUP BY server
"""


def totals_sql(scope: QuotaScope) -> str:
    """Return the query of all that is charged."""
    return (
        f"SELECT coalesce(min(charged_at), 0), coalesce(sum({_IMAGES}), 0),"
        f" coalesce(sum({_SECONDS}), 0) FROM usage WHERE {_IN_SCOPE[scope]} AND {_COUNTED}"
    )


async def charge(
    tx: Transaction,
    job_id: str,
    user_id: int,
    guild_id: int | None,
    images: int,
    seconds: float,
    now: float,
) -> None:
    """Charge a new job's pictures and expected GPU seconds to its user and server."""
    await tx.execute(
        "INSERT INTO usage (job_id, user_id, guild_id, charged_at, images, charged_seconds)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (job_id, user_id, guild_id, now, images, seconds),
    )


async def refund(tx: Transaction, job_id: str, now: float, share: float = 1.0) -> None:
    """Give a share (0 to 1) of what a job was charged back; a second time changes nothing."""
    if share > 0:
        await tx.execute(
            "UPDATE usage SET refunded_at = ?, refunded = ?"
            " WHERE job_id = ? AND refunded_at IS NULL",
            (now, min(share, 1.0), job_id),
        )


async def add_gpu_seconds(tx: Transaction, job_id: str, seconds: float, now: float) -> None:
    """Add what the GPU spent on a job until now, whatever came of it."""
    await tx.execute(
        "UPDATE usage SET gpu_seconds = gpu_seconds + ?, served_at = ? WHERE job_id = ?",
        (seconds, now, job_id),
    )


async def spent(tx: Transaction, job_ids: Sequence[str]) -> dict[str, float]:
    """Return the seconds that the GPU spent on jobs until now, of those that are not forgotten."""
    rows = await tx.all(
        "SELECT job_id, gpu_seconds FROM usage WHERE job_id IN (SELECT value FROM json_each(?))",
        (json.dumps(job_ids),),
    )
    return {row["job_id"]: row["gpu_seconds"] for row in rows}


async def total(
    tx: Transaction, scope: QuotaScope, user_id: int, guild_id: int | None, window: Window
) -> Charge:
    """Return all that is charged within `window`; its time is that of the oldest charge."""
    params = {"user_id": user_id, "guild_id": guild_id, **window.params()}
    row = await tx.one(totals_sql(scope), params)
    assert row
    return Charge(*row)


async def charges(
    tx: Transaction, scope: QuotaScope, user_id: int, guild_id: int | None, window: Window
) -> list[Charge]:
    """Return each charge within `window`, oldest first."""
    rows = await tx.all(
        f"SELECT charged_at, {_IMAGES}, {_SECONDS} FROM usage"
        f" WHERE {_IN_SCOPE[scope]} AND {_COUNTED} ORDER BY charged_at",
        {"user_id": user_id, "guild_id": guild_id, **window.params()},
    )
    return [Charge(*row) for row in rows]


async def last_charge(tx: Transaction, user_id: int, now: float) -> float | None:
    """Return when a user last asked for a job, refunded or not; not later than `now`.

    What the bot added by itself in their name does not count, such as alternative texts.
    """
    last: float | None = await tx.value(
        "SELECT charged_at FROM usage WHERE user_id = ? AND charged_at <= ? AND NOT EXISTS"
        " (SELECT 1 FROM jobs WHERE id = usage.job_id AND target = 'cli')"
        " ORDER BY charged_at DESC LIMIT 1",
        (user_id, now + AHEAD_S),
    )
    return None if last is None else min(last, now)


async def served(tx: Transaction, window: Window) -> Served:
    """Return the GPU seconds spent within `window` on the users and servers that wait for more."""
    served = Served()
    for user_id, server, seconds in await tx.all(SERVED, window.params()):
        if server is None:
            served.users[user_id] = seconds
        else:
            served.servers[server] = seconds
    return served
