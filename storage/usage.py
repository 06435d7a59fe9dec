"""The ledger `usage`: pictures charged to users, and the GPU's seconds spent on them."""

from __future__ import annotations

from typing import Final

from storage.database import Transaction

_CHARGED: Final = "FROM usage WHERE user_id = ? AND charged_at > ? AND refunded_at IS NULL"

SERVED: Final = """
SELECT user_id, sum(gpu_seconds) FROM usage
WHERE user_id IN (SELECT user_id FROM jobs WHERE state IN ('queued', 'running'))
  AND charged_at > ?
GROUP BY user_id
"""


async def charge(
    tx: Transaction, job_id: str, user_id: int, guild_id: int | None, images: int, now: float
) -> None:
    """Charge a new job's pictures to its user."""
    await tx.execute(
        "INSERT INTO usage (job_id, user_id, guild_id, charged_at, images) VALUES (?, ?, ?, ?, ?)",
        (job_id, user_id, guild_id, now, images),
    )


async def refund(tx: Transaction, job_id: str, now: float) -> None:
    """Give the pictures of a job back; a second time changes nothing."""
    await tx.execute(
        "UPDATE usage SET refunded_at = ? WHERE job_id = ? AND refunded_at IS NULL", (now, job_id)
    )


async def add_gpu_seconds(tx: Transaction, job_id: str, seconds: float) -> None:
    """Add what the GPU spent on a job, whatever came of it."""
    await tx.execute(
        "UPDATE usage SET gpu_seconds = gpu_seconds + ? WHERE job_id = ?", (seconds, job_id)
    )


async def charges(tx: Transaction, user_id: int, since: float) -> list[tuple[float, int]]:
    """Return (time, pictures) of each charge of a user after `since`, oldest first."""
    rows = await tx.all(
        f"SELECT charged_at, images {_CHARGED} ORDER BY charged_at", (user_id, since)
    )
    return [(row[0], row[1]) for row in rows]


async def last_charge(tx: Transaction, user_id: int) -> float | None:
    """Return when a user last added a job, refunded or not."""
    return await tx.value("SELECT max(charged_at) FROM usage WHERE user_id = ?", (user_id,))


async def served(tx: Transaction, since: float) -> dict[int, float]:
    """Return the GPU seconds that users with open jobs got from jobs added after `since`."""
    return {row[0]: row[1] for row in await tx.all(SERVED, (since,))}
