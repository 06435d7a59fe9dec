"""Quotas and rate limits, decided inside the transaction that adds the job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.errors import LimitReached, QueueClosed
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
            f"The queue is full ({limits.queue_size} jobs wait). Please try again in a while."
        )
    if await jobs.count_open(tx, user_id) >= limits.open_jobs:
        raise LimitReached(
            f"You already have {_many(limits.open_jobs, 'job')} waiting or running; that is the "
            "limit. Cancel one with /queue, or wait until one is done."
        )
    if limits.cooldown_s > 0:
        last = await usage.last_charge(tx, user_id)
        if last is not None and last + limits.cooldown_s > now:
            retry_at = math.ceil(last + limits.cooldown_s)
            raise LimitReached(
                f"Only one request in {limits.cooldown_s:g} seconds is possible; the next one "
                f"<t:{retry_at}:R>.",
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
            f"{_many(count, 'picture')} at once are more than the {limit} of a whole day."
        )
    retry_at = _room_at(charges, used - limit + count)
    if not left:
        what = "the next one is" if count == 1 else f"{count} more are"
        raise LimitReached(
            f"You have used {used} of {_many(limit, 'picture')} of the last 24 hours; "
            f"{what} possible <t:{retry_at}:R>.",
            retry_at=retry_at,
        )
    raise LimitReached(
        f"You have {left} of {_many(limit, 'picture')} of 24 hours left for now; {count} are "
        f"possible <t:{retry_at}:R>.",
        retry_at=retry_at,
    )


def _room_at(charges: Sequence[tuple[float, int]], needed: int) -> int:
    """Return the Unix second by which `needed` pictures have dropped out of the window."""
    for charged_at, images in charges:
        needed -= images
        if needed <= 0:
            return math.ceil(charged_at + DAY_S)
    raise AssertionError("no more is needed than was charged")


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
