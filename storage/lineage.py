"""What pictures were made from: the steps before one, and the families that they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.domain.job import Job
from storage import jobs
from storage.database import Transaction

STEPS_MOST: Final = 10
"""How many steps are followed back."""
FAMILY_SCANNED: Final = 2000
"""Among how many of a user's newest jobs families are looked for."""


@dataclass(frozen=True, slots=True)
class StepBefore:
    """A job that another was made from, and the message that shows it, as far as is known."""

    job: Job
    message_id: int | None
    channel_id: int | None


async def before(tx: Transaction, job: Job) -> list[StepBefore]:
    """Return what a job was made from, step by step, the nearest first, at most `STEPS_MOST`."""
    steps: list[StepBefore] = []
    seen = {job.id}
    parent = job.parent_id
    while parent is not None and parent not in seen and len(steps) < STEPS_MOST:
        found = await jobs.find(tx, parent)
        if found is None:
            break
        rows = await tx.all(
            "SELECT coalesce(sent_message_id, message_id) AS message_id,"
            " coalesce(sent_channel_id, channel_id) AS channel_id FROM deliveries WHERE job_id = ?",
            (parent,),
        )
        message, channel = rows[0] if rows else (None, None)
        steps.append(StepBefore(found, message, channel or found.channel_id))
        seen.add(parent)
        parent = found.parent_id
    return steps


async def family(
    tx: Transaction, user_id: int, limit: int, *, job_ids: list[str]
) -> list[list[Job]]:
    """Return the families of a user's jobs `job_ids`, each oldest first, those of one left out.

    A family is what goes back to the same picture, whosever that is; deleted and failed jobs are no
    members, but hold it together. Looked for among the newest `FAMILY_SCANNED` jobs; of a large one
    the newest `limit` are returned.
    """
    rows = await tx.all(
        "SELECT id, parent_id, state = 'generated' AND kind = 'picture'"
        " AND deleted_at IS NULL AS shown FROM jobs"
        " WHERE user_id = ? ORDER BY created_at DESC, id DESC LIMIT ?",
        (user_id, FAMILY_SCANNED),
    )
    parents: dict[str, str | None] = {row["id"]: row["parent_id"] for row in rows}
    members: dict[str, list[str]] = {}
    for row in rows:
        if row["shown"]:
            members.setdefault(_root(row["id"], parents), []).append(row["id"])
    roots = dict.fromkeys(_root(one, parents) for one in job_ids if one in parents)
    found: list[list[Job]] = []
    for root in roots:
        newest = members.get(root, [])[:limit]
        if len(newest) > 1:
            each = [await jobs.find(tx, one) for one in reversed(newest)]
            found.append([job for job in each if job is not None])
    return found


def _root(job_id: str, parents: dict[str, str | None]) -> str:
    """Return the first picture that one goes back to, as far as `parents` tell."""
    at, seen = job_id, {job_id}
    while (parent := parents.get(at)) is not None and parent not in seen:
        seen.add(parent)
        at = parent
    return at
