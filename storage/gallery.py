"""Finished jobs as their users look at them: pages, and pictures that are deleted."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bot.domain.job import Job
from storage import jobs, texts
from storage.database import Transaction

# A row that another version wrote may hold anything.
_PROMPT: Final = "CASE WHEN json_valid(request) THEN json_extract(request, '$.prompt') ELSE '' END"
_SHOWN: Final = f"""
    state = 'generated' AND kind = 'picture' AND deleted_at IS NULL
    AND (:text IS NULL OR instr(lower({_PROMPT}), lower(:text)))
"""
# How many of a user's jobs one query looks through; more of them are looked through in parts.
SCANNED: Final = 2000
_SCANNED_UNREAD: Final = 200
"""The same where no prompt has to be read."""


@dataclass(frozen=True, slots=True)
class Part:
    """What was found in one part of a user's jobs, and the id to go on from; None at the end."""

    jobs: list[Job]
    edge: str | None


async def part(
    tx: Transaction,
    user_id: int,
    limit: int,
    *,
    text: str | None = None,
    edge: str | None = None,
    older: bool = True,
) -> Part:
    """Return up to `limit` of a user's pictures older, or newer, than the job `edge`.

    `text` filters by words of the prompt; SQLite folds the case of ASCII letters alone. However
    many jobs there are, the next few thousand alone are looked through.
    """
    scanned = SCANNED if text else _SCANNED_UNREAD
    values = {"user": user_id, "text": text or None, "edge": edge, "scanned": scanned}
    # Bounds the index on (user_id, created_at): deep pages cost no more than the first.
    bound = "((SELECT created_at FROM jobs WHERE id = :edge), :edge)"
    order = "DESC" if older else "ASC"
    beyond = f"AND (created_at, id) < {bound}" if older else f"AND (created_at, id) > {bound}"
    beyond = "" if edge is None else beyond
    rows = await tx.all(
        f"SELECT id, {_SHOWN} AS shown FROM"
        " (SELECT id, state, kind, deleted_at, request FROM jobs"
        f" WHERE user_id = :user {beyond} ORDER BY created_at {order}, id {order} LIMIT :scanned)",
        values,
    )
    shown = [row["id"] for row in rows if row["shown"]]
    found = [await jobs.find(tx, job_id) for job_id in shown[:limit]]
    last = rows[-1]["id"] if len(rows) == scanned else None
    return Part([job for job in found if job], last)


async def last_in_channel(tx: Transaction, user_id: int, channel_id: int) -> Job | None:
    """Return a user's newest picture of a channel, looked for among their newest jobs."""
    rows = await tx.all(
        "SELECT id FROM (SELECT id, state, kind, deleted_at, channel_id FROM jobs"
        " WHERE user_id = :user ORDER BY created_at DESC LIMIT :scanned) WHERE state = 'generated'"
        " AND kind = 'picture' AND deleted_at IS NULL AND channel_id = :channel LIMIT 1",
        {"user": user_id, "channel": channel_id, "scanned": _SCANNED_UNREAD},
    )
    return await jobs.find(tx, rows[0]["id"]) if rows else None


async def latest(tx: Transaction, user_id: int, text: str, limit: int) -> list[Job]:
    """Return a user's newest jobs that are not deleted whose id or prompt contains `text`.

    Those that nobody asked for, such as alternative texts, are left out. Looked for among the
    newest `SCANNED` ones: each key that is pressed asks.
    """
    rows = await tx.all(
        "SELECT id FROM (SELECT id, request, deleted_at, target FROM jobs WHERE user_id = :user"
        " ORDER BY created_at DESC LIMIT :scanned) WHERE deleted_at IS NULL AND target <> 'cli'"
        " AND (:text = ''"
        f" OR instr(id, lower(:text)) OR instr(lower({_PROMPT}), lower(:text))) LIMIT :limit",
        {"user": user_id, "text": text, "limit": limit, "scanned": SCANNED},
    )
    found = [await jobs.find(tx, row["id"]) for row in rows]
    return [job for job in found if job]


async def mark_deleted(tx: Transaction, job_id: str, now: float) -> None:
    """Note that a job's pictures are to be deleted; they are no longer shown from now on.

    What was written for it goes at once.
    """
    await texts.forget(tx, job_id)
    await tx.execute(
        "UPDATE jobs SET deleted_at = coalesce(deleted_at, ?) WHERE id = ?", (now, job_id)
    )


async def forget_pictures(tx: Transaction, job_id: str) -> None:
    """Drop the rows of pictures whose files are gone."""
    await tx.execute("DELETE FROM images WHERE job_id = ?", (job_id,))


async def half_deleted(tx: Transaction) -> list[str]:
    """Return the deleted jobs whose files may still lie on the disk."""
    rows = await tx.all(
        "SELECT id FROM jobs WHERE deleted_at IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM images WHERE job_id = id)"
    )
    return [row["id"] for row in rows]


async def with_inputs(tx: Transaction, job_ids: Collection[str]) -> set[str]:
    """Return which of these jobs start, or started, from pictures, and are not deleted."""
    rows = await tx.all(
        "SELECT jobs.id FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.id = asked.value"
        " WHERE deleted_at IS NULL AND CASE WHEN json_valid(request)"
        " THEN json_extract(request, '$.input_image') IS NOT NULL"
        " OR json_array_length(request, '$.references') > 0 ELSE 1 END",
        (json.dumps(list(job_ids)),),
    )
    return {row["id"] for row in rows}
