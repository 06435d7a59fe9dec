"""The states of open forms that are too long for a `custom_id`."""

from __future__ import annotations

from typing import Final

from storage.clock import DAY_S
from storage.database import Transaction

KEPT_A_USER: Final = 20
"""A form that was opened before a user's last twenty of this kind can no longer be sent."""


async def keep(tx: Transaction, key: str, user_id: int, state: str, now: float) -> None:
    """Keep a state for a day, of a user the newest ones."""
    await tx.execute(
        "INSERT INTO form_states (key, user_id, state, expires_at) VALUES (?, ?, ?, ?)",
        (key, user_id, state, now + DAY_S),
    )
    await tx.execute(
        # Keys begin with the time at which they were made.
        "DELETE FROM form_states WHERE user_id = ?1 AND key NOT IN"
        " (SELECT key FROM form_states WHERE user_id = ?1 ORDER BY key DESC LIMIT ?2)",
        (user_id, KEPT_A_USER),
    )


async def find(tx: Transaction, key: str, user_id: int) -> str | None:
    """Return the state that was kept for this very user's form; None where it is gone."""
    return await tx.value(
        "SELECT state FROM form_states WHERE key = ? AND user_id = ?", (key, user_id)
    )


async def forget(tx: Transaction, user_id: int) -> None:
    """Delete the states of a user's forms."""
    await tx.execute("DELETE FROM form_states WHERE user_id = ?", (user_id,))


async def forget_expired(tx: Transaction, now: float) -> int:
    """Delete what expired before a time that has held (`storage.clock`); return how many."""
    return await tx.execute("DELETE FROM form_states WHERE expires_at <= ?", (now,))
