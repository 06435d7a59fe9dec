"""The tables `facts` (small values of the whole bot, by name) and `guilds`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from storage.database import Transaction

LOAD_FAILURE: Final = "load_failure"
"""Why the model could not be loaded the last time it was tried: {"at": seconds, "detail": text}."""


async def get_fact(tx: Transaction, name: str) -> str | None:
    """Return a fact, or None if it was never set."""
    return await tx.value("SELECT value FROM facts WHERE name = ?", (name,))


async def get_facts(tx: Transaction, names: Sequence[str]) -> list[str | None]:
    """Return several facts in one query, None for those that were never set."""
    rows = await tx.all(
        "SELECT name, value FROM facts WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names)),),
    )
    found = {row["name"]: row["value"] for row in rows}
    return [found.get(name) for name in names]


async def set_fact(tx: Transaction, name: str, value: str | None) -> None:
    """Set a fact; None deletes it."""
    if value is None:
        await tx.execute("DELETE FROM facts WHERE name = ?", (name,))
    else:
        await tx.execute(
            "INSERT INTO facts (name, value) VALUES (?1, ?2)"
            " ON CONFLICT (name) DO UPDATE SET value = ?2",
            (name, value),
        )
