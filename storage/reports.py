"""The tables `reports` (what was reported to moderators) and `postings` (further messages)."""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Report:
    """One user's report of one job; `channel_id` and `message_id` are of the reported message.

    The `filed` ids are of the message in the moderators' channel, None until it is there.
    """

    job_id: str
    reporter_id: int
    guild_id: int
    channel_id: int
    message_id: int
    at: float
    reason: str = ""
    filed_channel_id: int | None = None
    filed_message_id: int | None = None


async def of_job(tx: Transaction, job_id: str) -> list[Report]:
    """Return the reports of a job, oldest first."""
    rows = await tx.all("SELECT * FROM reports WHERE job_id = ? ORDER BY at, rowid", (job_id,))
    return [Report(**dict(row)) for row in rows]


async def count_since(tx: Transaction, reporter_id: int, since: float) -> int:
    """Return how many reports a user made since a time (Unix seconds)."""
    return await tx.value(
        "SELECT count(*) FROM reports WHERE reporter_id = ? AND at > ?", (reporter_id, since)
    )


async def add(tx: Transaction, report: Report) -> None:
    """Add a report, or replace the user's one of that job."""
    await tx.execute(
        "INSERT OR REPLACE INTO reports (job_id, reporter_id, guild_id, channel_id, message_id, at,"
        " reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            report.job_id,
            report.reporter_id,
            report.guild_id,
            report.channel_id,
            report.message_id,
            report.at,
            report.reason,
        ),
    )


async def filed(tx: Transaction, job_id: str, channel_id: int, message_id: int) -> None:
    """Remember the moderators' message about a job."""
    await tx.execute(
        "UPDATE reports SET filed_channel_id = ?, filed_message_id = ? WHERE job_id = ?",
        (channel_id, message_id, job_id),
    )


async def remove(tx: Transaction, job_id: str, reporter_id: int) -> None:
    """Take back a report that reached nobody."""
    await tx.execute(
        "DELETE FROM reports WHERE job_id = ? AND reporter_id = ?", (job_id, reporter_id)
    )


async def post(tx: Transaction, job_id: str, channel_id: int, message_id: int) -> None:
    """Remember a further message that shows a job's picture, so that it can be deleted with it."""
    await tx.execute(
        "INSERT OR IGNORE INTO postings (message_id, channel_id, job_id) VALUES (?, ?, ?)",
        (message_id, channel_id, job_id),
    )
