"""Settings in memory, of users and servers: a form or a private answer cannot wait for a disk."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from storage import audit, people
from storage.database import Database, Transaction
from storage.people import Table

_REMEMBERED: Final = 5000
Edit = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Returns what changes of the settings that it is given."""


class RememberedSettings:
    """The stored settings by table and id, the latest used of them in memory."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._reading: dict[tuple[Table, int], asyncio.Future[dict[str, Any]]] = {}
        self._remembered: OrderedDict[tuple[Table, int], dict[str, Any]] = OrderedDict()

    def forget(self, table: Table, key: int) -> None:
        """Drop what is remembered of settings that were deleted."""
        self._remembered.pop((table, key), None)

    async def get(self, table: Table, key: int) -> dict[str, Any]:
        """Return the settings of a user or server."""
        if (found := self._remembered.get((table, key))) is not None:
            self._remembered.move_to_end((table, key))
            return found
        # One read for all who ask meanwhile, so that they go on in the order in which they came.
        if (reading := self._reading.get((table, key))) is None:
            reading = asyncio.ensure_future(
                self._database.read(lambda tx: people.get(tx, table, key))
            )
            self._reading[table, key] = reading
            reading.add_done_callback(lambda _: self._reading.pop((table, key), None))
        found = await asyncio.shield(reading)
        # A change that was committed meanwhile is newer.
        if (newer := self._remembered.get((table, key))) is not None:
            return newer
        self._remember(table, key, found)
        return found

    def _remember(self, table: Table, key: int, values: dict[str, Any]) -> None:
        self._remembered[table, key] = values
        self._remembered.move_to_end((table, key))
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    async def change(
        self,
        table: Table,
        key: int,
        edit: Edit,
        *,
        by: int | None = None,
        detail: str | None = None,
    ) -> dict[str, Any]:
        """Change settings by what they are now; return them whole.

        `edit` gets the stored values inside the transaction; what it raises leaves all as it was.
        With `by` there is a note in the audit.
        """
        now = self._clock()

        async def change(tx: Transaction) -> dict[str, Any]:
            stored = await people.get(tx, table, key)
            changes = edit(stored)
            values = {
                name: value for name, value in {**stored, **changes}.items() if value is not None
            }
            await people.put(tx, table, key, values, now)
            if by is not None:
                await audit.record(
                    tx,
                    now,
                    actor_id=by,
                    guild_id=key,
                    action="settings",
                    detail=detail or ", ".join(changes),
                )
            return values

        return await self._database.write(change, then=partial(self._remember, table, key))
