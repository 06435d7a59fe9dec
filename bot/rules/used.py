"""Limits used: what a user has used of theirs, and what is left."""

from __future__ import annotations

from dataclasses import dataclass

from bot.domain.job import Origin
from bot.rules.limits import DAY_S, Limits, server_limits
from bot.rules.quotas import Quota
from storage import jobs, usage
from storage.database import Transaction
from storage.usage import Charge, Window


@dataclass(frozen=True, slots=True)
class LimitsUsed:
    """Where a user stands. Times are Unix seconds.

    `quotas` come with what of each was charged in the last 24 hours; the time of that is when the
    oldest charge was made, 0 without any. `ready_at` is when the next request is possible, None if
    at once.
    """

    quotas: tuple[tuple[Quota, Charge], ...]
    open_jobs: int
    open_limit: int
    waiting: int
    waiting_limit: int
    ready_at: float | None


async def limits_used(tx: Transaction, limits: Limits, origin: Origin, now: float) -> LimitsUsed:
    """Return where the user of `origin` stands, in the place that it comes from."""
    own = await server_limits(tx, origin.guild_id)
    found: list[tuple[Quota, Charge]] = []
    for quota in limits.quotas(origin, own):
        whose = (quota.scope, origin.user_id, origin.guild_id)
        found.append((quota, await usage.total(tx, *whose, Window(now, DAY_S))))
    cooldown = limits.cooldown_of(origin)
    last = await usage.last_charge(tx, origin.user_id, now) if cooldown > 0 else None
    ready_at = None if last is None else last + cooldown
    return LimitsUsed(
        quotas=tuple(found),
        open_jobs=await jobs.count_open(tx, origin.user_id),
        open_limit=limits.open_jobs_of(origin),
        waiting=await jobs.count_queued(tx),
        waiting_limit=limits.queue_size,
        ready_at=ready_at if ready_at is not None and ready_at > now else None,
    )
