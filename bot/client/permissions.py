"""Permissions: who may act on whose jobs, on a server's settings, and on the bot as a whole.

Discord's own rights decide (Manage Server, Manage Messages), in servers that the bot is in; the
bot's owner may do everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import discord
from discord.ext import commands

from bot.domain.job import Job
from bot.errors import InvalidRequest, NotAllowed
from bot.words import _


class Permissions:
    """What the user of an interaction may do, asked anew at each use.

    `owner_ids` gives the Discord ids of those who own the bot besides the application's owner.
    """

    def __init__(self, bot: commands.Bot, owner_ids: Callable[[], Collection[int]]) -> None:
        self._bot = bot
        self._owner_ids = owner_ids

    async def is_moderator(self, interaction: discord.Interaction[Any]) -> bool:
        """Tell whether the user may act on other people's jobs of this server."""
        if self._is_ours(interaction) and interaction.permissions.manage_guild:
            return True
        return await self.is_bot_owner(interaction.user)

    async def require_moderator(self, interaction: discord.Interaction[Any]) -> None:
        """Raise `NotAllowed` unless `is_moderator`."""
        if not await self.is_moderator(interaction):
            raise NotAllowed(_("Only people with the Manage Server permission may do this."))

    async def may_manage_all(self, interaction: discord.Interaction[Any]) -> bool:
        """Tell whether the user may act on the bot as a whole, and see all of it.

        That is the bot's owner, or a moderator of the only server that it is in.
        """
        if await self.is_bot_owner(interaction.user):
            return True
        return len(self._bot.guilds) <= 1 and await self.is_moderator(interaction)

    async def require_owner(self, interaction: discord.Interaction[Any]) -> None:
        """Raise `NotAllowed` for anyone but the bot's owner."""
        if not await self.is_bot_owner(interaction.user):
            raise NotAllowed(_("Only the bot's owner may do this."))

    async def require_all(self, interaction: discord.Interaction[Any]) -> None:
        """Raise `NotAllowed` unless `may_manage_all`."""
        await self.require_moderator(interaction)
        if not await self.may_manage_all(interaction):
            raise NotAllowed(
                _("The bot serves several servers: only its owner may pause or resume the queue.")
            )

    async def moderated_server(self, interaction: discord.Interaction[Any]) -> int:
        """Return the server of an interaction by one who may change its settings.

        Raises `NotAllowed`, or `InvalidRequest` outside of servers.
        """
        await self.require_moderator(interaction)
        if interaction.guild_id is None:
            raise InvalidRequest(_("This works in a server only."))
        return interaction.guild_id

    def _is_ours(self, interaction: discord.Interaction[Any]) -> bool:
        """Tell whether it comes from a server that the bot is in: rights elsewhere mean nothing."""
        return (
            interaction.guild_id is not None
            and self._bot.get_guild(interaction.guild_id) is not None
        )

    async def may_manage(self, interaction: discord.Interaction[Any], job: Job) -> bool:
        """Tell whether the user may act on this job though it is someone else's."""
        here = self._is_ours(interaction) and job.guild_id == interaction.guild_id
        if here and interaction.permissions.manage_guild:
            return True
        return await self.is_bot_owner(interaction.user)

    async def may_delete(self, interaction: discord.Interaction[Any], job: Job) -> bool:
        """Tell whether the user may delete this job's pictures though they are someone else's."""
        here = self._is_ours(interaction) and job.guild_id == interaction.guild_id
        if here and interaction.permissions.manage_messages:
            return True
        return await self.may_manage(interaction, job)

    async def is_bot_owner(self, user: discord.abc.User) -> bool:
        """Tell whether the user owns the bot (the application, or OWNER_IDS)."""
        return user.id in self._owner_ids() or await self._bot.is_owner(
            discord.Object(user.id)  # pyright: ignore[reportArgumentType]
        )
