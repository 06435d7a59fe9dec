"""The table `users`: who was ever seen."""

from __future__ import annotations

from storage.database import Transaction


async def see(tx: Transaction, user_id: int, name: str, locale: str, now: float) -> None:
    """Remember a user as seen now, by the present name and locale."""
    await tx.execute(
        "INSERT INTO users (id, name, first_seen, last_seen, locale) VALUES (?1, ?2, ?4, ?4, ?3)"
        " ON CONFLICT (id) DO UPDATE SET name = ?2, locale = ?3, last_seen = ?4",
        (user_id, name, locale, now),
    )
