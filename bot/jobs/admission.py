"""How a request becomes a job: all that is checked and written in the one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from bot.domain.job import Job, Origin
from bot.domain.request import ImageRequest
from bot.jobs.schedule import QueuePlace
from bot.rules import limits as limits_
from bot.rules.blocked import require_unblocked
from bot.rules.limits import Limits
from storage import jobs, people, usage
from storage.database import Transaction
from storage.usage import Charge


@dataclass(frozen=True)
class Submission:
    """An accepted request; `repeated` if its `source_id` was seen before: this is its first job."""

    job: Job
    place: QueuePlace
    repeated: bool


async def admit(
    tx: Transaction,
    job_id: str,
    request: ImageRequest,
    origin: Origin,
    limits: Limits,
    *,
    rate: float | None,
    now: float,
) -> Job:
    """Check blocks and limits; add the job, its charge, and whom it is for.

    `rate` is the measured seconds for a megapixel step. Raises `NotAllowed`, `LimitReached` or
    `QueueClosed`.
    """
    await require_unblocked(tx, origin.user_id, origin.guild_id, now)
    needed = Charge(now, request.count, request.megapixel_steps * (rate or 0.0))
    own = await limits_.server_limits(tx, origin.guild_id)
    await limits_.check(tx, limits, own, origin, needed)
    weight = own.weight({*origin.role_ids, origin.guild_id or 0})
    await jobs.insert(tx, job_id, request, origin, now, weight=weight)
    await usage.charge(
        tx, job_id, origin.user_id, origin.guild_id, request.count, needed.seconds, now
    )
    await people.see_user(tx, origin.user_id, origin.user_name, origin.locale, now)
    if origin.guild_id is not None:
        await people.see_guild(tx, origin.guild_id, now)
    job = await jobs.find(tx, job_id)
    assert job
    return job
