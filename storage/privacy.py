"""The stored data of one user, to be deleted; the ledger `usage` stays."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Final

from storage import texts
from storage.database import Transaction

_FINAL: Final = "state IN ('generated', 'failed', 'cancelled')"
_OPEN: Final = "state IN ('queued', 'running')"
# The ledger decides about limits of 24 hours; a week more shows what happened.
LEDGER_DAYS: Final = 8


async def final_jobs(tx: Transaction, user_id: int, limit: int) -> list[str]:
    """Return the ids of up to `limit` of a user's jobs that have ended."""
    rows = await tx.all(
        f"SELECT id FROM jobs WHERE user_id = ? AND {_FINAL} LIMIT ?", (user_id, limit)
    )
    return [row["id"] for row in rows]


async def open_job_ids(tx: Transaction, user_id: int) -> list[str]:
    """Return the ids of a user's jobs that wait or run and that they asked for."""
    rows = await tx.all(
        f"SELECT id FROM jobs WHERE user_id = ? AND {_OPEN} AND target <> 'cli'", (user_id,)
    )
    return [row["id"] for row in rows]


async def ended(tx: Transaction, job_ids: Collection[str]) -> set[str]:
    """Return which of these jobs have ended."""
    rows = await tx.all(
        "SELECT jobs.id FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.id = asked.value"
        f" WHERE {_FINAL}",
        (json.dumps(list(job_ids)),),
    )
    return {row["id"] for row in rows}


async def outdated(tx: Transaction, before: float, limit: int) -> list[str]:
    """Return jobs that ended before a time (Unix seconds) and whose answer is not on its way."""
    rows = await tx.all(
        "SELECT id FROM jobs JOIN deliveries ON job_id = id WHERE finished_at < ?"
        " AND deliveries.state IN ('delivered', 'undeliverable') LIMIT ?",
        (before, limit),
    )
    return [row["id"] for row in rows]


async def messages(tx: Transaction, job_ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return (channel, message) of all that shows these jobs and that the bot may delete.

    These are the answers, the messages whose answer came by another one, and pictures that were
    taken out of a batch.
    """
    found: list[tuple[int, int]] = []
    for job_id in job_ids:
        rows = await tx.all(
            "SELECT sent_channel_id, sent_message_id FROM deliveries WHERE job_id = ?1"
            " AND sent_channel_id IS NOT NULL AND sent_message_id IS NOT NULL"
            " UNION SELECT channel_id, message_id FROM deliveries WHERE job_id = ?1"
            " AND channel_id IS NOT NULL AND message_id IS NOT NULL AND bot_in_channel"
            " UNION SELECT channel_id, message_id FROM postings WHERE job_id = ?1",
            (job_id,),
        )
        found += [(row[0], row[1]) for row in rows]
    return found


async def forget_jobs(tx: Transaction, job_ids: Sequence[str]) -> None:
    """Delete ended jobs with their pictures' and deliveries' rows, and alternative texts."""
    for job_id in job_ids:
        await texts.forget(tx, job_id)
        await tx.execute(f"DELETE FROM jobs WHERE id = ? AND {_FINAL}", (job_id,))


async def forget_user(tx: Transaction, user_id: int) -> None:
    """Delete what a user has set and reported, and the name."""
    await tx.execute("DELETE FROM reports WHERE reporter_id = ?", (user_id,))
    await tx.execute("DELETE FROM users WHERE id = ?", (user_id,))


async def prune_ledger(tx: Transaction, before: float) -> int:
    """Delete what was charged before a time (Unix seconds) for jobs that are not open."""
    return await tx.execute(
        "DELETE FROM usage WHERE charged_at < ? AND job_id NOT IN"
        f" (SELECT id FROM jobs WHERE {_OPEN})",
        (before,),
    )
