"""`/admin moderation`: what happens to flagged pictures, and where reports go."""

from __future__ import annotations

from typing import Final

import discord
from discord import app_commands

from bot.client.bot import ImageBot
from bot.errors import InvalidRequest
from bot.rules.verdicts import Exposure
from bot.words import _, mark

_NAMES: Final = {
    Exposure.ALLOW: mark("Show them"),
    Exposure.SPOILER: mark("Behind a spoiler"),
    Exposure.DM: mark("By direct message"),
    Exposure.BLOCK: mark("Show nothing"),
}
_CHOICES: Final = [
    app_commands.Choice(name=name, value=exposure.value) for exposure, name in _NAMES.items()
]


class ModerationGroup(app_commands.Group):
    """`/admin moderation`."""

    @app_commands.command(name="policy", description=mark("What happens to flagged pictures."))
    @app_commands.describe(
        restricted=mark("In age-restricted channels."), elsewhere=mark("In all other channels.")
    )
    @app_commands.choices(restricted=_CHOICES, elsewhere=_CHOICES)
    async def policy(
        self,
        interaction: discord.Interaction[ImageBot],
        restricted: str | None = None,
        elsewhere: str | None = None,
    ) -> None:
        """Set what is given, and show what holds."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        preferences = bot.services.preferences
        changes = {"flagged_restricted": restricted, "flagged_elsewhere": elsewhere}
        given = {name: value for name, value in changes.items() if value is not None}
        if given:
            await preferences.set_guild(guild_id, given, by=interaction.user.id)
        policy = await preferences.policy(guild_id)
        lines = [
            _("Flagged pictures in age-restricted channels: {way}.").format(
                way=_(_NAMES[policy.restricted])
            ),
            _("Flagged pictures in other channels: {way}.").format(way=_(_NAMES[policy.elsewhere])),
        ]
        if not bot.services.settings.image_check:
            lines.append(_("The image check is off (`IMAGE_CHECK`), so nothing is flagged."))
        await interaction.response.send_message("\n".join(lines), ephemeral=True)

    @app_commands.command(name="reports", description=mark("Where reports of pictures go."))
    @app_commands.describe(where=mark("Which channel; left out, nothing can be reported."))
    async def reports(
        self,
        interaction: discord.Interaction[ImageBot],
        where: discord.TextChannel | discord.Thread | None = None,
    ) -> None:
        """Choose the moderators' channel."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        if where is not None:
            own = where.permissions_for(where.guild.me)
            may_send = own.send_messages
            if isinstance(where, discord.Thread):
                may_send = own.send_messages_in_threads
            if not (own.view_channel and may_send and own.embed_links):
                raise InvalidRequest(
                    _("I need to see {channel}, to write there and to embed links there.").format(
                        channel=f"<#{where.id}>"
                    )
                )
        changes = {"report_channel": None if where is None else where.id}
        await bot.services.preferences.set_guild(guild_id, changes, by=interaction.user.id)
        sentence = _("Pictures can no longer be reported here.")
        if where is not None:
            sentence = _("Reports go to {channel}.").format(channel=f"<#{where.id}>")
        await interaction.response.send_message(sentence, ephemeral=True)
