"""A user's stored data, page by page, to be handed out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from storage.database import Transaction

Rows = dict[str, list[dict[str, Any]]]

JOBS_AT_ONCE: Final = 100
ROWS_AT_ONCE: Final = 500
_JOBS: Final = (
    "SELECT * FROM jobs WHERE user_id = ?1 AND (created_at, id) > (?2, ?3)"
    " ORDER BY created_at, id LIMIT ?4"
)
_PICTURES: Final = (
    "SELECT * FROM images WHERE job_id IN (SELECT value FROM json_each(?))"
    " ORDER BY job_id, position"
)
_TEXTS: Final = "SELECT * FROM texts WHERE job_id IN (SELECT value FROM json_each(?))"
# An interaction's token is nobody's data and is left out.
_DELIVERIES: Final = (
    "SELECT job_id, state, channel_id, message_id, rung, delivered_at, sent_channel_id,"
    " sent_message_id FROM deliveries WHERE job_id IN (SELECT value FROM json_each(?))"
    " ORDER BY job_id"
)
# What is about a user besides their jobs, gone through by rowid.
_OTHERS: Final = ("reports", "usage", "audit")
_REPORTS: Final = (
    "SELECT rowid AS place, job_id, guild_id, at, reason FROM reports"
    " WHERE reporter_id = ? AND rowid > ? ORDER BY rowid LIMIT ?"
)
_USAGE: Final = (
    "SELECT rowid AS place, * FROM usage WHERE user_id = ? AND rowid > ? ORDER BY rowid LIMIT ?"
)
_AUDIT: Final = (
    "SELECT rowid AS place, * FROM audit WHERE actor_id = ? AND rowid > ? ORDER BY rowid LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far an export has come: all of a job that was asked for then (Unix seconds).

    With `index` its files have come up to that one only: 0 is the picture that it starts from, 1
    its first picture, 10 its mask, 11 its first reference.
    """

    created_at: float
    job_id: str
    index: int | None = None

    def __str__(self) -> str:
        return self.job_id if self.index is None else f"{self.job_id}.{self.index}"


@dataclass(frozen=True, slots=True)
class ExportPage:
    """Where a page begins: after a job, and after a row of each other table that is not done."""

    after: tuple[float, str]
    others: Mapping[str, int] = field(default_factory=dict[str, int])
    first: bool = False


def first_page(after: Place | None) -> ExportPage:
    """Return the first page of all, or the one that goes on with the jobs at a place."""
    if after is None:
        return ExportPage((0.0, ""), dict.fromkeys(_OTHERS, 0), first=True)
    # No id is less than the empty one: a job whose files came in part is handed out again.
    return ExportPage((after.created_at, after.job_id if after.index is None else ""))


async def read_page(
    tx: Transaction, user_id: int, page: ExportPage
) -> tuple[Rows, ExportPage | None]:
    """Return a page of a user's rows by table, and the page after it, None where it is the last."""
    rows: Rows = {}
    if page.first:
        rows["user"] = _dicts(await tx.all("SELECT * FROM users WHERE id = ?", (user_id,)))
    jobs = _dicts(await tx.all(_JOBS, (user_id, *page.after, JOBS_AT_ONCE)))
    ids = json.dumps([job["id"] for job in jobs])
    rows["jobs"] = jobs
    rows["pictures"] = _dicts(await tx.all(_PICTURES, (ids,)))
    rows["texts"] = _dicts(await tx.all(_TEXTS, (ids,)))
    rows["deliveries"] = _dicts(await tx.all(_DELIVERIES, (ids,)))
    others: dict[str, int] = {}
    for table, after in page.others.items():
        found = await _other(tx, table, (user_id, after, ROWS_AT_ONCE))
        places = [row.pop("place") for row in found]
        rows[table] = found
        if len(found) == ROWS_AT_ONCE:
            others[table] = places[-1]
    if len(jobs) < JOBS_AT_ONCE and not others:
        return rows, None
    return rows, ExportPage(
        (jobs[-1]["created_at"], jobs[-1]["id"]) if jobs else page.after, others
    )


async def _other(tx: Transaction, table: str, values: tuple[int, int, int]) -> list[dict[str, Any]]:
    match table:
        case "reports":
            return _dicts(await tx.all(_REPORTS, values))
        case "usage":
            return _dicts(await tx.all(_USAGE, values))
        case _:
            return _dicts(await tx.all(_AUDIT, values))


async def created_at(tx: Transaction, user_id: int, job_id: str) -> float | None:
    """Return when a user asked for a job (Unix seconds); None where it is none of theirs."""
    return await tx.value(
        "SELECT created_at FROM jobs WHERE id = ? AND user_id = ?", (job_id, user_id)
    )


async def jobs_left(tx: Transaction, user_id: int, reached: Place | None) -> int:
    """Return how many of a user's jobs an export that came so far does not hold as a whole."""
    return await tx.value(
        "SELECT count(*) FROM jobs WHERE user_id = ? AND (created_at, id) > (?, ?)",
        (user_id, *first_page(reached).after),
    )


def _dicts(rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
