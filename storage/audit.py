"""The table `audit`: what moderators and admins did."""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Transaction


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action; `at` is Unix time in seconds."""

    id: int
    at: float
    actor_id: int
    guild_id: int | None
    action: str
    target: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are wanted; None does not ask."""

    guild_id: int | None = None
    actor_id: int | None = None
    action: str | None = None


async def record(
    tx: Transaction,
    now: float,
    *,
    actor_id: int,
    action: str,
    guild_id: int | None = None,
    target: str | None = None,
    detail: str | None = None,
) -> None:
    """Add one action, in the transaction that does it."""
    await tx.execute(
        "INSERT INTO audit (at, actor_id, guild_id, action, target, detail)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (now, actor_id, guild_id, action, target, detail),
    )


async def newest(tx: Transaction, wanted: Wanted, count: int, *, skip: int = 0) -> list[AuditEntry]:
    """Return entries, newest first, after the `skip` newest ones."""
    rows = await tx.all(
        "SELECT id, at, actor_id, guild_id, action, target, detail FROM audit"
        " WHERE (?1 IS NULL OR guild_id = ?1) AND (?2 IS NULL OR actor_id = ?2)"
        " AND (?3 IS NULL OR action = ?3) ORDER BY id DESC LIMIT ?4 OFFSET ?5",
        (wanted.guild_id, wanted.actor_id, wanted.action, count, skip),
    )
    return [AuditEntry(**dict(row)) for row in rows]
