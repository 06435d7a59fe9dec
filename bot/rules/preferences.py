"""Preferences: what users and servers have set for themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bot.catalogue.styles import Style, from_values
from bot.domain.request import COUNT_MAX
from bot.domain.writing import Enhance
from bot.rules import server_edits
from bot.rules.model_rules import NO_MODEL_RULES, ModelRules
from bot.rules.notice import USUAL, Notice
from bot.rules.refusals import ChannelClosed
from bot.rules.remembered import Edit, RememberedSettings
from bot.rules.server_limits import ServerLimits
from bot.rules.verdicts import Policy
from bot.words import LANGUAGES
from storage import people
from storage.database import Database


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is taken where a request names nothing; None leaves it to the next in line."""

    model: str | None = None
    aspect: str | None = None
    quality: str | None = None
    count: int | None = None
    style: str | None = None
    negative: str | None = None
    private: bool | None = None
    enhance: str | None = None
    """What becomes of a prompt before it is drawn, an `Enhance`."""
    language: str | None = None
    notice: Notice | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read stored values; those of an unexpected type count as not set."""
        texts = {
            name: value
            for name in ("model", "aspect", "quality", "style", "negative", "enhance", "language")
            if isinstance(value := values.get(name), str) and value
        }
        if texts.get("language") not in LANGUAGES:
            texts.pop("language", None)
        if texts.get("enhance") not in set(Enhance):
            texts.pop("enhance", None)
        private, count = values.get("private"), values.get("count")
        notice = values.get("notice")
        return cls(
            **texts,
            notice=Notice(notice) if notice in tuple(Notice) else None,
            count=count if isinstance(count, int) and 1 <= count <= COUNT_MAX else None,
            private=private if isinstance(private, bool) else None,
        )


UNSET: Final = Defaults()


class Preferences:
    """What users and servers have set, each part of it in its own type."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.remembered = RememberedSettings(database, clock=clock)
        self._database = database

    async def user(self, user_id: int) -> Defaults:
        """Return a user's own defaults."""
        return Defaults.read(await self.remembered.get("users", user_id))

    async def guild(self, guild_id: int | None) -> Defaults:
        """Return a server's defaults; none outside of servers."""
        return (
            Defaults.read(await self.remembered.get("guilds", guild_id)) if guild_id else Defaults()
        )

    async def styles(self, guild_id: int | None) -> tuple[Style, ...]:
        """Return a server's own styles."""
        if not guild_id:
            return ()
        return from_values((await self.remembered.get("guilds", guild_id)).get("styles"))

    async def rules(self, guild_id: int | None) -> tuple[str, ...]:
        """Return what prompts may not say in a server."""
        return (
            server_edits.rules_of(await self.remembered.get("guilds", guild_id)) if guild_id else ()
        )

    async def closed_places(self, guild_id: int | None) -> frozenset[int]:
        """Return the channels and categories of a server where nothing is drawn."""
        if not guild_id:
            return frozenset()
        return server_edits.closed_places_of(await self.remembered.get("guilds", guild_id))

    async def require_open(self, guild_id: int | None, *place_ids: int | None) -> None:
        """Raise `ChannelClosed` where one of these (channel, parent, category) is closed."""
        if set(place_ids) & await self.closed_places(guild_id):
            raise ChannelClosed

    async def policy(self, guild_id: int | None) -> Policy:
        """Return what a server does with flagged pictures."""
        return Policy.read(await self.remembered.get("guilds", guild_id)) if guild_id else Policy()

    async def report_channel(self, guild_id: int) -> int | None:
        """Return the channel that a server's moderators read reports in."""
        found = (await self.remembered.get("guilds", guild_id)).get("report_channel")
        return found if isinstance(found, int) else None

    async def last_locale(self, user_id: int) -> str:
        """Return the locale to write to a user in where nothing tells it (a direct message)."""
        chosen = (await self.user(user_id)).language
        if chosen is not None:
            return chosen
        found = await self._database.read(lambda tx: people.locale_of(tx, user_id))
        return found or "en-US"

    async def set_user(self, user_id: int, changes: Mapping[str, Any]) -> Defaults:
        """Change some of a user's settings; None unsets one."""
        return Defaults.read(
            await self.remembered.change("users", user_id, lambda _values: changes)
        )

    async def set_guild(self, guild_id: int, changes: Mapping[str, Any], *, by: int) -> Defaults:
        """Change some of a server's settings, with a note in the audit."""
        return await self.edit_guild(guild_id, lambda _values: changes, by=by)

    async def limits(self, guild_id: int) -> ServerLimits:
        """Return what a server has set about limits."""
        return ServerLimits.read(await self.remembered.get("guilds", guild_id))

    async def model_rules(self, guild_id: int | None) -> ModelRules:
        """Return who may use which model in a server."""
        if not guild_id:
            return NO_MODEL_RULES
        return ModelRules.read(await self.remembered.get("guilds", guild_id))

    async def edit_guild(
        self, guild_id: int, edit: Edit, *, by: int, detail: str | None = None
    ) -> Defaults:
        """Change a server's settings by what they are now, with a note in the audit.

        `edit` gets the stored values inside the transaction and returns the changes; what it
        raises leaves all as it was.
        """
        return Defaults.read(
            await self.remembered.change("guilds", guild_id, edit, by=by, detail=detail)
        )


async def notice_for(preferences: Preferences, user_id: int, guild_id: int | None) -> Notice:
    """Return how a user wants to learn of an answer: the own setting, else the server's."""
    own, shared = await preferences.user(user_id), await preferences.guild(guild_id)
    return own.notice or shared.notice or USUAL
