"""Blocked users, who may not ask."""

from __future__ import annotations

from bot.errors import NotAllowed
from bot.words import _
from storage import blocks
from storage.database import Transaction


async def require_unblocked(
    tx: Transaction, user_id: int, guild_id: int | None, now: float
) -> None:
    """Raise `NotAllowed` for a blocked user, with the reason and the end."""
    block = await blocks.find(tx, user_id, guild_id, now)
    if block is None:
        return
    sentence = _("You cannot use the bot here.")
    if block.until is not None:
        end = _("You can again {time}.").format(time=f"<t:{block.until:.0f}:R>")
        sentence = f"{sentence} {end}"
    if block.reason:
        why = _("Reason: {reason}").format(reason=block.reason)
        sentence = f"{sentence} {why}"
    raise NotAllowed(sentence)
