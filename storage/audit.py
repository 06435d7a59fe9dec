"""The table `audit`: what moderators and admins did."""

from __future__ import annotations

from storage.database import Transaction


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
