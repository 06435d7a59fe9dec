"""How a request becomes a job: all that is checked and written in the one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from bot.errors import NotAllowed
from bot.jobs import limits as limits_
from bot.jobs.estimate import Place
from bot.jobs.limits import Limits
from bot.jobs.model import Job, Origin
from bot.jobs.request import ImageRequest
from bot.words import _
from storage import blocks, facts, jobs, usage, users
from storage.database import Transaction
from storage.usage import Charge


@dataclass(frozen=True)
class Submission:
    """An accepted request; `repeated` if its `source_id` was seen before: this is its first job."""

    job: Job
    place: Place
    repeated: bool


async def require_unblocked(
    tx: Transaction, user_id: int, guild_id: int | None, now: float
) -> None:
    """Raise `NotAllowed` for a blocked user, with the reason and the end."""
    block = await blocks.find(tx, user_id, guild_id, now)
    if block is None:
        return
    sentence = _("You cannot use the bot here.")
    if block.until is not None:
        end = _("You can again {time}.").format(time=f"<t:{block.until:.0f}:R>")
        sentence = f"{sentence} {end}"
    if block.reason:
        why = _("Reason: {reason}").format(reason=block.reason)
        sentence = f"{sentence} {why}"
    raise NotAllowed(sentence)


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
    await users.see(tx, origin.user_id, origin.user_name, origin.locale, now)
    if origin.guild_id is not None:
        await facts.see_guild(tx, origin.guild_id, now)
    job = await jobs.find(tx, job_id)
    assert job
    return job
