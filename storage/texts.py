"""The table `texts`: what was written for jobs that asked for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from storage.database import Transaction

_ALT: Final = "target = 'cli' AND substr(source_id, 1, 1) = 'a'"
"""Whether a job writes an alternative text; see `alt_source`."""


async def add(tx: Transaction, job_id: str, text: str) -> None:
    """Keep what was written for a job, but for an alternative text whose pictures were deleted."""
    await tx.execute(
        f"INSERT INTO texts (job_id, text) SELECT id, ?2 FROM jobs WHERE id = ?1 AND (NOT ({_ALT})"
        " OR EXISTS (SELECT 1 FROM jobs AS drawn WHERE drawn.id = substr(jobs.source_id, 2)"
        " AND drawn.deleted_at IS NULL))",
        (job_id, text),
    )


def alt_source(job_id: str) -> str:
    """Return the `source_id` of the job that writes the alternative text of another's pictures."""
    return f"a{job_id}"


async def alt_of(tx: Transaction, job_id: str) -> str | None:
    """Return the alternative text of a job's pictures, None where none was written."""
    return await tx.value(
        "SELECT text FROM texts WHERE job_id = (SELECT id FROM jobs WHERE source_id = ?)",
        (alt_source(job_id),),
    )


async def alt_jobs(tx: Transaction, job_ids: Sequence[str]) -> list[str]:
    """Return the jobs that write, or wrote, the alternative texts of other jobs' pictures."""
    rows = await tx.all(
        "SELECT jobs.id FROM json_each(?) AS asked CROSS JOIN jobs"
        " ON jobs.source_id = 'a' || asked.value",
        (json.dumps(list(job_ids)),),
    )
    return [row["id"] for row in rows]


async def awaiting_alt(tx: Transaction, user_id: int) -> list[str]:
    """Return the jobs of a user of whose pictures an alternative text is still to be written."""
    rows = await tx.all(
        "SELECT substr(source_id, 2) AS drawn FROM jobs WHERE state IN ('queued', 'running')"
        f" AND user_id = ? AND {_ALT}",
        (user_id,),
    )
    return [row["drawn"] for row in rows]


async def forget(tx: Transaction, job_id: str) -> None:
    """Delete what was written for a job, and of its pictures."""
    await tx.execute(
        "DELETE FROM texts WHERE job_id = ?1"
        " OR job_id = (SELECT id FROM jobs WHERE source_id = ?2)",
        (job_id, alt_source(job_id)),
    )


async def rewrite(tx: Transaction, job_id: str, request: str, tokens: float) -> None:
    """Store a job's request anew, whose prompt needs no rewriting any more.

    `tokens` are those that it writes all the same: none where it is drawn.
    """
    await tx.execute(
        "UPDATE jobs SET request = ?, tokens = ? WHERE id = ?", (request, tokens, job_id)
    )
