"""Blocked users, who may not ask."""

from __future__ import annotations

from bot.rules.refusals import UserBlocked
from storage import blocks
from storage.database import Transaction


async def require_unblocked(
    tx: Transaction, user_id: int, guild_id: int | None, now: float
) -> None:
    """Raise `UserBlocked` for a blocked user."""
    block = await blocks.find(tx, user_id, guild_id, now)
    if block is not None:
        raise UserBlocked(block.until, block.reason)
