"""Finished jobs as their users look at them: pages, and pictures that are deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.domain.job import Job
from storage import jobs
from storage.database import Transaction

# A row that another version wrote may hold anything.
_PROMPT: Final = "CASE WHEN json_valid(request) THEN json_extract(request, '$.prompt') ELSE '' END"
_MINE: Final = f"""
    user_id = :user AND state = 'generated' AND deleted_at IS NULL
    AND (:text IS NULL OR instr(lower({_PROMPT}), lower(:text)))
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and whether there are newer and older ones."""

    jobs: list[Job]
    newer: bool
    older: bool


async def page(
    tx: Transaction,
    user_id: int,
    size: int,
    *,
    text: str | None = None,
    before: str | None = None,
    after: str | None = None,
) -> Page:
    """Return a user's pictures older than the job `before`, or newer than `after`, or the newest.

    `text` filters by words of the prompt; SQLite folds the case of ASCII
    letters alone.
    """
    values = {"user": user_id, "text": text or None, "edge": before or after, "limit": size + 1}
    # Bounds the index on (user_id, created_at): deep pages cost no more than the first.
    bound = "((SELECT created_at FROM jobs WHERE id = :edge), :edge)"
    edge, order = "", "DESC"
    if before:
        edge = f"AND (created_at, id) < {bound}"
    elif after:
        edge, order = f"AND (created_at, id) > {bound}", "ASC"
    rows = await tx.all(
        f"SELECT id FROM jobs WHERE {_MINE} {edge} ORDER BY created_at {order}, id {order}"
        " LIMIT :limit",
        values,
    )
    ids = [row["id"] for row in rows[:size]]
    more = len(rows) > size
    if after and not before:
        ids.reverse()
        newer, older = more, True
    else:
        newer, older = before is not None, more
    found = [await jobs.find(tx, job_id) for job_id in ids]
    return Page([job for job in found if job], newer, older)


async def latest(tx: Transaction, user_id: int, text: str, limit: int) -> list[Job]:
    """Return a user's newest jobs that are not deleted whose id or prompt contains `text`."""
    rows = await tx.all(
        "SELECT id FROM jobs WHERE user_id = :user AND deleted_at IS NULL AND (:text = ''"
        " OR instr(id, lower(:text))"
        f" OR instr(lower({_PROMPT}), lower(:text)))"
        " ORDER BY created_at DESC LIMIT :limit",
        {"user": user_id, "text": text, "limit": limit},
    )
    found = [await jobs.find(tx, row["id"]) for row in rows]
    return [job for job in found if job]


async def mark_deleted(tx: Transaction, job_id: str, now: float) -> None:
    """Note that a job's pictures are to be deleted; they are no longer shown from now on."""
    await tx.execute(
        "UPDATE jobs SET deleted_at = coalesce(deleted_at, ?) WHERE id = ?", (now, job_id)
    )


async def forget_pictures(tx: Transaction, job_id: str) -> None:
    """Drop the rows of pictures whose files are gone."""
    await tx.execute("DELETE FROM images WHERE job_id = ?", (job_id,))


async def half_deleted(tx: Transaction) -> list[str]:
    """Return the deleted jobs whose files may still lie on the disk."""
    rows = await tx.all(
        "SELECT DISTINCT id FROM jobs JOIN images ON job_id = id WHERE deleted_at IS NOT NULL"
    )
    return [row["id"] for row in rows]


async def with_inputs(tx: Transaction) -> set[str]:
    """Return the jobs that start, or started, from a picture of their own, and are not deleted."""
    rows = await tx.all(
        "SELECT id FROM jobs WHERE deleted_at IS NULL AND CASE WHEN json_valid(request)"
        " THEN json_extract(request, '$.input_image') IS NOT NULL ELSE 1 END"
    )
    return {row["id"] for row in rows}
