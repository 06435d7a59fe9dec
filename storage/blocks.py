"""The table `blocks`: who may not use the bot, where, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storage.database import Transaction

EVERYWHERE: Final = 0


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `guild_id` 0 means everywhere. Times are Unix seconds, None is for good."""

    user_id: int
    guild_id: int
    at: float
    until: float | None
    reason: str
    actor_id: int


async def find(tx: Transaction, user_id: int, guild_id: int | None, now: float) -> Block | None:
    """Return the block that holds for a user here and now, the one everywhere first."""
    row = await tx.one(
        "SELECT * FROM blocks WHERE user_id = ? AND guild_id IN (0, ?)"
        " AND (until IS NULL OR until > ?) ORDER BY guild_id LIMIT 1",
        (user_id, guild_id or EVERYWHERE, now),
    )
    return Block(**dict(row)) if row else None


async def put(tx: Transaction, block: Block) -> None:
    """Add a block, or replace the user's one there."""
    await tx.execute(
        "INSERT OR REPLACE INTO blocks (user_id, guild_id, at, until, reason, actor_id)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (block.user_id, block.guild_id, block.at, block.until, block.reason, block.actor_id),
    )


async def remove(tx: Transaction, user_id: int, guild_id: int) -> bool:
    """End a block; False if there was none."""
    return bool(
        await tx.execute(
            "DELETE FROM blocks WHERE user_id = ? AND guild_id = ?", (user_id, guild_id)
        )
    )


async def listed(tx: Transaction, guild_id: int, now: float) -> list[Block]:
    """Return the blocks that hold in a server (0: everywhere), newest first."""
    rows = await tx.all(
        "SELECT * FROM blocks WHERE guild_id = ? AND (until IS NULL OR until > ?)"
        " ORDER BY at DESC LIMIT 50",
        (guild_id, now),
    )
    return [Block(**dict(row)) for row in rows]


async def waiting_jobs(tx: Transaction, user_id: int, guild_id: int) -> list[str]:
    """Return a user's queued jobs that a block in a server (0: everywhere) drops."""
    rows = await tx.all(
        "SELECT id FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued'"
        " AND user_id = ?1 AND (?2 = 0 OR guild_id = ?2)",
        (user_id, guild_id),
    )
    return [row["id"] for row in rows]


async def forbidden_jobs(
    tx: Transaction, now: float, job_id: str | None = None
) -> list[tuple[str, bool]]:
    """Return the queued jobs of blocked users and of closed channels: id, and whether blocked.

    With `job_id` this one alone is looked at.
    """
    which = "" if job_id is None else "AND id = :id"
    rows = await tx.all(
        f"""
        SELECT id, EXISTS (
            SELECT 1 FROM blocks WHERE blocks.user_id = jobs.user_id
            AND blocks.guild_id IN (0, coalesce(jobs.guild_id, 0))
            AND (until IS NULL OR until > :now)
        ) AS blocked, EXISTS (
            SELECT 1 FROM guilds, json_each(
                CASE WHEN json_valid(settings) THEN settings ELSE '{{}}' END, '$.denied_channels'
            ) WHERE guilds.id = jobs.guild_id AND value IN (channel_id, parent_channel_id)
            UNION ALL
            SELECT 1 FROM guilds, json_tree(
                CASE WHEN json_valid(settings) THEN settings ELSE '{{}}' END, '$.denied_categories'
            ) WHERE guilds.id = jobs.guild_id AND atom IN (channel_id, parent_channel_id)
        ) AS closed
        FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued' {which}
        AND (blocked OR closed)
        """,
        {"now": now, "id": job_id},
    )
    return [(row["id"], bool(row["blocked"])) for row in rows]
