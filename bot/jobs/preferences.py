"""What users and servers have set for themselves: defaults, language, styles."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from bot.styles import Style, from_values, to_values
from bot.words import LANGUAGES
from storage import audit, preferences
from storage.database import Database, Transaction
from storage.preferences import Table

_REMEMBERED: Final = 5000


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is taken where a request names nothing; None leaves it to the next in line."""

    aspect: str | None = None
    quality: str | None = None
    style: str | None = None
    negative: str | None = None
    private: bool | None = None
    language: str | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read stored values; those of an unexpected type count as not set."""
        texts = {
            name: value
            for name in ("aspect", "quality", "style", "negative", "language")
            if isinstance(value := values.get(name), str) and value
        }
        if texts.get("language") not in LANGUAGES:
            texts.pop("language", None)
        private = values.get("private")
        return cls(**texts, private=private if isinstance(private, bool) else None)


UNSET: Final = Defaults()


class Preferences:
    """The settings, remembered: a form or a private answer cannot wait for a disk."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._reading: dict[tuple[Table, int], asyncio.Future[dict[str, Any]]] = {}
        self._remembered: OrderedDict[tuple[Table, int], dict[str, Any]] = OrderedDict()

    async def user(self, user_id: int) -> Defaults:
        """Return a user's own defaults."""
        return Defaults.read(await self._get("users", user_id))

    async def guild(self, guild_id: int | None) -> Defaults:
        """Return a server's defaults; none outside of servers."""
        return Defaults.read(await self._get("guilds", guild_id)) if guild_id else Defaults()

    async def styles(self, guild_id: int | None) -> tuple[Style, ...]:
        """Return a server's own styles."""
        if not guild_id:
            return ()
        return from_values((await self._get("guilds", guild_id)).get("styles"))

    async def rules(self, guild_id: int | None) -> tuple[str, ...]:
        """Return what prompts may not say in a server."""
        return tuple(map(str, await self._list(guild_id, "rules")))

    async def denied_channels(self, guild_id: int | None) -> tuple[int, ...]:
        """Return the channels of a server where nothing is drawn."""
        return tuple(
            channel
            for channel in await self._list(guild_id, "denied_channels")
            if isinstance(channel, int)
        )

    async def _list(self, guild_id: int | None, name: str) -> list[Any]:
        found = (await self._get("guilds", guild_id)).get(name) if guild_id else None
        return cast("list[Any]", found) if isinstance(found, list) else []

    async def language(self, user_id: int) -> str | None:
        """Return the language that a user chose, a key of `bot.words.LANGUAGES`."""
        return (await self.user(user_id)).language

    async def last_locale(self, user_id: int) -> str:
        """Return the locale to write to a user in where nothing tells it (a direct message)."""
        chosen = await self.language(user_id)
        if chosen is not None:
            return chosen
        found = await self._database.read(lambda tx: preferences.locale_of(tx, user_id))
        return found or "en-US"

    async def set_user(self, user_id: int, changes: Mapping[str, Any]) -> Defaults:
        """Change some of a user's settings; None unsets one."""
        return Defaults.read(await self._change("users", user_id, changes))

    async def set_guild(self, guild_id: int, changes: Mapping[str, Any], *, by: int) -> Defaults:
        """Change some of a server's settings, with a note in the audit."""
        return Defaults.read(await self._change("guilds", guild_id, changes, by=by))

    async def set_styles(
        self, guild_id: int, styles: Iterable[Style], *, by: int, detail: str
    ) -> None:
        """Replace a server's own styles."""
        changes = {"styles": to_values(styles)}
        await self._change("guilds", guild_id, changes, by=by, detail=detail)

    def forget(self, user_id: int) -> None:
        """Drop what is remembered of a user whose settings were deleted."""
        self._remembered.pop(("users", user_id), None)

    async def _get(self, table: Table, key: int) -> dict[str, Any]:
        if (found := self._remembered.get((table, key))) is not None:
            self._remembered.move_to_end((table, key))
            return found
        # One read for all who ask meanwhile, so that they go on in the order in which they came.
        if (reading := self._reading.get((table, key))) is None:
            reading = asyncio.ensure_future(
                self._database.read(lambda tx: preferences.get(tx, table, key))
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

    async def _change(
        self,
        table: Table,
        key: int,
        changes: Mapping[str, Any],
        *,
        by: int | None = None,
        detail: str | None = None,
    ) -> dict[str, Any]:
        now = self._clock()

        async def change(tx: Transaction) -> dict[str, Any]:
            values = {**await preferences.get(tx, table, key), **changes}
            values = {name: value for name, value in values.items() if value is not None}
            await preferences.put(tx, table, key, values, now)
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

        values = await self._database.write(change)
        self._remember(table, key, values)
        return values
