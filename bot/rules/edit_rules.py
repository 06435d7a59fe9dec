"""Whose pictures may be edited, by server and role; kept in the server's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Self, cast

from bot.errors import NotAllowed
from bot.words import _

NAME: Final = "edits"
"""The key in `guilds.settings`."""
MOST_EDIT_ROLES: Final = 25


class Whose(IntEnum):
    """Whose a picture is to the one who edits it; a right to one has those before it too."""

    OWN = 0
    """Made for them by the bot, or sent by themselves."""
    BOTS = 1
    """Made by the bot for somebody else."""
    ANY = 2
    """In somebody else's message."""


@dataclass(frozen=True, slots=True)
class EditRules:
    """A server's rule: the most that a role may edit, by its id; the server's own is @everyone.

    Who has several roles may what the most generous of them may, @everyone among them: where
    nothing is set for that, everyone may edit any picture that they can see, as they may reroll.
    """

    roles: Mapping[int, Whose] = field(default_factory=dict[int, Whose])

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Read a server's stored settings; what is of an unexpected type counts as not set."""
        found = settings.get(NAME)
        values = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        known = {one.name.lower(): one for one in Whose}
        return cls(
            {
                int(key): known[value]
                for key, value in values.items()
                if key.isdecimal() and isinstance(value, str) and value in known
            }
        )

    def to_values(self) -> dict[str, str] | None:
        """Return what is stored; None where nothing is set."""
        return {str(key): one.name.lower() for key, one in self.roles.items()} or None

    def most(self, guild_id: int, held: Collection[int]) -> Whose:
        """Return the most that somebody with the roles `held` may edit in a server."""
        everyone = self.roles.get(guild_id, Whose.ANY)
        return max([everyone, *(self.roles[one] for one in held if one in self.roles)])

    def require(self, whose: Whose, guild_id: int, held: Collection[int]) -> None:
        """Raise `NotAllowed` where somebody with these roles may not edit such a picture."""
        most = self.most(guild_id, held)
        if whose <= most:
            return
        if most is Whose.OWN:
            raise NotAllowed(_("On this server you may edit only your own pictures."))
        raise NotAllowed(
            _("On this server you may edit only the bot's pictures and those that you sent.")
        )
