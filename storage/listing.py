"""Pages of one user's jobs, whatever became of them, newest first."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bot.domain.job import Job, JobState
from storage import jobs
from storage.database import Transaction

SCANNED: Final = 1000
"""How many jobs one page looks through: one that filters much is short, and says where it ended."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: in one of `states`, of `model`, made from `since` until before `until`.

    What is empty or None is not asked for. Times are Unix seconds.
    """

    states: Collection[JobState] = ()
    model: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ListedJobs:
    """Jobs, and the id of the one that the next page comes after; None at the end."""

    jobs: list[Job]
    edge: str | None


async def page(
    tx: Transaction,
    user_id: int,
    wanted: JobFilter,
    limit: int,
    *,
    edge: str | None = None,
    configured: str = "",
) -> ListedJobs:
    """Return up to `limit` jobs of a user that are older than the job `edge`.

    Jobs without a model of their own have the `configured` one.
    """
    # Bounds the index on (user_id, created_at): deep pages cost no more than the first.
    bound = "((SELECT created_at FROM jobs WHERE id = :edge), :edge)"
    beyond = "" if edge is None else f"AND (created_at, id) < {bound}"
    rows = await tx.all(
        "SELECT id, (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))"
        " AND (:model IS NULL OR coalesce(model, :configured) = :model) AS wanted"
        " FROM (SELECT id, state, model FROM jobs WHERE user_id = :user"
        " AND created_at >= coalesce(:since, 0)"
        f" AND created_at < coalesce(:until, 9e999) {beyond}"
        " ORDER BY created_at DESC, id DESC LIMIT :scanned)",
        {
            "user": user_id,
            "states": json.dumps(sorted(wanted.states)),
            "model": wanted.model,
            "configured": configured,
            "since": wanted.since,
            "until": wanted.until,
            "edge": edge,
            "scanned": SCANNED,
        },
    )
    shown = [row["id"] for row in rows if row["wanted"]]
    if len(shown) > limit:
        last = shown[limit - 1]
    else:
        last = rows[-1]["id"] if len(rows) == SCANNED else None
    return ListedJobs(await jobs.find_all(tx, shown[:limit]), last)
