"""The settings of users and servers: JSON in `users.settings` and `guilds.settings`."""

from __future__ import annotations

import json
from typing import Any, Literal, cast

from storage.database import Transaction

Table = Literal["users", "guilds"]


async def get(tx: Transaction, table: Table, key: int) -> dict[str, Any]:
    """Return the settings of a user or server; empty where there are none, or none readable."""
    text = await tx.value(f"SELECT settings FROM {table} WHERE id = ?", (key,))
    try:
        values: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", values) if isinstance(values, dict) else {}


async def put(tx: Transaction, table: Table, key: int, values: dict[str, Any], now: float) -> None:
    """Store the settings of a user or server, who may not have been seen before."""
    text = json.dumps(values, ensure_ascii=False)
    columns, places = ("id, name, first_seen, last_seen", "?1, '', ?3, ?3")
    if table == "guilds":
        columns, places = ("id, first_seen", "?1, ?3")
    await tx.execute(
        f"INSERT INTO {table} ({columns}, settings) VALUES ({places}, ?2)"
        " ON CONFLICT (id) DO UPDATE SET settings = ?2",
        (key, text, now),
    )


async def locale_of(tx: Transaction, user_id: int) -> str | None:
    """Return the locale that a user was last seen with."""
    return await tx.value("SELECT locale FROM users WHERE id = ?", (user_id,))


async def see_guild(tx: Transaction, guild_id: int, now: float) -> None:
    """Remember a guild; its first sight counts."""
    await tx.execute(
        "INSERT INTO guilds (id, first_seen) VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
        (guild_id, now),
    )


async def see_user(tx: Transaction, user_id: int, name: str, locale: str, now: float) -> None:
    """Remember a user as seen now, by the present name and locale."""
    await tx.execute(
        "INSERT INTO users (id, name, first_seen, last_seen, locale) VALUES (?1, ?2, ?4, ?4, ?3)"
        " ON CONFLICT (id) DO UPDATE SET name = ?2, locale = ?3, last_seen = ?4",
        (user_id, name, locale, now),
    )


async def name_of(tx: Transaction, user_id: int) -> str | None:
    """Return the name that a user was last seen with."""
    return await tx.value("SELECT name FROM users WHERE id = ?", (user_id,))
