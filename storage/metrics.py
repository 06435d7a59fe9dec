"""Counts of jobs, for whoever watches the bot's health."""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Transaction


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The open jobs now; `oldest_at` is when the longest-waiting one came (Unix seconds)."""

    queued: int
    running: int
    oldest_at: float | None


async def depth(tx: Transaction) -> QueueDepth:
    """Return how many jobs are open."""
    row = await tx.one(
        "SELECT sum(state = 'queued'), sum(state = 'running'),"
        " min(CASE WHEN state = 'queued' THEN created_at END)"
        " FROM jobs WHERE state IN ('queued', 'running')"
    )
    assert row
    return QueueDepth(row[0] or 0, row[1] or 0, row[2])


async def peak_gpu_bytes(tx: Transaction, job_id: str) -> int | None:
    """Return the most memory of the card that a job had at once."""
    return await tx.value("SELECT peak_gpu_bytes FROM jobs WHERE id = ?", (job_id,))
