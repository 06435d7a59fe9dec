"""`/admin edit`: whose pictures the roles of a server may edit."""

from __future__ import annotations

from functools import partial
from typing import Final

import discord
from discord import app_commands

from bot.client.bot import ImageBot
from bot.client.editing import edit_rules_of
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import roles_named, shorten
from bot.rules.edit_rules import EditRules, Whose
from bot.rules.server_edits import with_edit_role, without_edit_role
from bot.words import _, mark

_NAMES: Final = {
    Whose.OWN: mark("own pictures only"),
    Whose.BOTS: mark("the bot's pictures and own ones"),
    Whose.ANY: mark("any picture that they can see"),
}
_CHOICES: Final = [app_commands.Choice(name=n, value=w.name.lower()) for w, n in _NAMES.items()]


def _describe(rules: EditRules, guild_id: int) -> str:
    """Return a line for each role, @everyone first; what is not set for that is the default."""
    roles = {guild_id: rules.roles.get(guild_id, Whose.ANY), **rules.roles}
    line = _("{role}: {pictures}")
    lines = [
        line.format(role=roles_named((id_,), guild_id), pictures=_(_NAMES[most]))
        for id_, most in roles.items()
    ]
    if len(lines) > 1:
        lines.append(_("If someone has several roles, the most generous one counts."))
    return "\n".join(lines)


async def _answer(interaction: discord.Interaction[ImageBot], guild_id: int) -> None:
    """Say who may edit what now."""
    rules = await edit_rules_of(interaction.client, guild_id)
    sentence = shorten(_describe(rules, guild_id), MESSAGE_LENGTH)
    await interaction.response.send_message(sentence, ephemeral=True)


class EditGroup(app_commands.Group):
    """`/admin edit`."""

    @app_commands.command(
        name="allow", description=mark("Set whose pictures a role may edit; @everyone is one too.")
    )
    @app_commands.describe(
        role=mark("Who may edit them."), pictures=mark("The most that they may edit.")
    )
    @app_commands.choices(pictures=_CHOICES)
    async def allow(
        self, interaction: discord.Interaction[ImageBot], role: discord.Role, pictures: str
    ) -> None:
        """Set the most that a role may edit."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        most = Whose[pictures.upper()]
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(with_edit_role, role_id=role.id, most=most),
            by=interaction.user.id,
            detail=f"role {role.id} edits: {pictures}",
        )
        await _answer(interaction, guild_id)

    @app_commands.command(
        name="remove", description=mark("Forget what is set about a role and edits.")
    )
    @app_commands.describe(role=mark("Which role."))
    async def remove(self, interaction: discord.Interaction[ImageBot], role: discord.Role) -> None:
        """Forget a role's rule; where that was @everyone's, everyone may edit what they see."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(without_edit_role, role_id=role.id),
            by=interaction.user.id,
            detail=f"role {role.id} edits: no rule",
        )
        await _answer(interaction, guild_id)

    @app_commands.command(name="list", description=mark("Show who may edit what here."))
    async def show(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the roles about which something is set."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        await _answer(interaction, guild_id)
