"""Quotas and rate limits, decided inside the transaction that adds the job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.errors import LimitReached, QueueClosed
from bot.words import _, ngettext
from storage import jobs, usage
from storage.database import Transaction

DAY_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user may have: open jobs, pictures in any 24 hours, seconds between two requests.

    `queue_size` bounds the jobs that wait from everyone together.
    """

    open_jobs: int = 3
    images_per_day: int = 100
    cooldown_s: float = 0
    queue_size: int = 500


async def check(tx: Transaction, limits: Limits, user_id: int, count: int, now: float) -> None:
    """Raise `QueueClosed` or `LimitReached` when a user may not add `count` pictures now."""
    if await jobs.count_queued(tx) >= limits.queue_size:
        raise QueueClosed(
            _("The queue is full ({count} jobs wait). Please try again in a while.").format(
                count=limits.queue_size
            )
        )
    if await jobs.count_open(tx, user_id) >= limits.open_jobs:
        raise LimitReached(
            ngettext(
                "You already have {count} job waiting or running; that is the limit. Cancel one "
                "with /queue, or wait until one is done.",
                "You already have {count} jobs waiting or running; that is the limit. Cancel one "
                "with /queue, or wait until one is done.",
                limits.open_jobs,
            ).format(count=limits.open_jobs)
        )
    if limits.cooldown_s > 0:
        last = await usage.last_charge(tx, user_id)
        if last is not None and last + limits.cooldown_s > now:
            retry_at = math.ceil(last + limits.cooldown_s)
            raise LimitReached(
                _("Only one request in {seconds} seconds is possible; the next one {time}.").format(
                    seconds=f"{limits.cooldown_s:g}", time=f"<t:{retry_at}:R>"
                ),
                retry_at=retry_at,
            )
    _check_day(await usage.charges(tx, user_id, now - DAY_S), limits.images_per_day, count)


def _check_day(charges: Sequence[tuple[float, int]], limit: int, count: int) -> None:
    used = sum(images for _, images in charges)
    left = max(0, limit - used)
    if count <= left:
        return
    if count > limit:
        raise LimitReached(
            _("{count} pictures at once are more than the {limit} of a whole day.").format(
                count=count, limit=limit
            )
        )
    retry_at = _room_at(charges, used - limit + count)
    if not left:
        raise LimitReached(
            ngettext(
                "You have used {used} of {limit} pictures of the last 24 hours; the next one is "
                "possible {time}.",
                "You have used {used} of {limit} pictures of the last 24 hours; {count} more are "
                "possible {time}.",
                count,
            ).format(used=used, limit=f"{limit:,}", count=count, time=f"<t:{retry_at}:R>"),
            retry_at=retry_at,
        )
    raise LimitReached(
        _(
            "You have {left} of {limit} pictures of 24 hours left for now; {count} are "
            "possible {time}."
        ).format(left=left, limit=f"{limit:,}", count=count, time=f"<t:{retry_at}:R>"),
        retry_at=retry_at,
    )


def _room_at(charges: Sequence[tuple[float, int]], needed: int) -> int:
    """Return the Unix second by which `needed` pictures have dropped out of the window."""
    for charged_at, images in charges:
        needed -= images
        if needed <= 0:
            return math.ceil(charged_at + DAY_S)
    raise AssertionError("no more is needed than was charged")
