"""The audit log, for those who look after the bot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from storage import audit
from storage.audit import AuditEntry, Wanted
from storage.database import Database

__all__ = ["AuditEntry", "AuditLog", "AuditPage", "Wanted"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, newest first, and whether older ones follow."""

    entries: list[AuditEntry]
    older: bool


class AuditLog:
    """Writes actions that change no row of their own, and reads the audit back."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def note(self, action: str, *, by: int, guild_id: int | None = None) -> None:
        """Write an action into the audit."""
        now = self._clock()
        await self._database.write(
            lambda tx: audit.record(tx, now, actor_id=by, guild_id=guild_id, action=action)
        )
        log.info("%s by %d", action, by)

    async def page(self, wanted: Wanted, number: int, size: int) -> AuditPage:
        """Return page `number` (from 0) of the entries of a filter."""
        found = await self._database.read(
            lambda tx: audit.newest(tx, wanted, size + 1, skip=number * size)
        )
        return AuditPage(found[:size], len(found) > size)
