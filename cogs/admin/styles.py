"""`/admin style`: a server's own styles."""

from __future__ import annotations

from functools import partial

import discord
from discord import app_commands

from bot.catalogue.styles import NAME_LIMIT, TEXT_LIMIT, Style
from bot.client.bot import ImageBot
from bot.errors import InvalidRequest
from bot.jobs.compose import is_none
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import safe, shorten
from bot.rules import server_edits
from bot.words import _, mark


class StyleGroup(app_commands.Group):
    """`/admin style`."""

    @app_commands.command(name="add", description=mark("Add a style, or replace one of that name."))
    @app_commands.describe(
        name=mark("What people choose it by."),
        prompt=mark("What it adds to the prompt."),
        negative=mark("What it adds to the negative prompt."),
    )
    async def add_style(
        self,
        interaction: discord.Interaction[ImageBot],
        name: app_commands.Range[str, 1, NAME_LIMIT],
        prompt: app_commands.Range[str, 1, TEXT_LIMIT],
        negative: app_commands.Range[str, 1, TEXT_LIMIT] | None = None,
    ) -> None:
        """Store a style of this server's own."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        new = Style(" ".join(name.split()), prompt, negative or "")
        if is_none(new.name):
            raise InvalidRequest(_("A style needs a name of its own."))
        await interaction.client.services.preferences.edit_guild(
            guild_id,
            partial(server_edits.with_style, new=new),
            by=interaction.user.id,
            detail=f"style {new.name}",
        )
        sentence = _("The style {name} can be chosen here now.").format(
            name=safe(new.name, NAME_LIMIT)
        )
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(name="remove", description=mark("Remove one of this server's styles."))
    @app_commands.describe(name=mark("The style's name."))
    async def remove_style(
        self,
        interaction: discord.Interaction[ImageBot],
        name: app_commands.Range[str, 1, NAME_LIMIT],
    ) -> None:
        """Forget a style; built-in ones stay."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        await interaction.client.services.preferences.edit_guild(
            guild_id,
            partial(server_edits.without_style, name=" ".join(name.split())),
            by=interaction.user.id,
            detail=f"no style {name}",
        )
        sentence = _("The style {name} was removed.").format(name=safe(name, NAME_LIMIT))
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(name="list", description=mark("Show this server's styles."))
    async def list_styles(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the server's own styles."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        own = await interaction.client.services.preferences.styles(guild_id)
        lines = [f"**{safe(style.name, NAME_LIMIT)}**: {safe(style.prompt, 100)}" for style in own]
        text = "\n".join(lines) or _("This server has no styles of its own.")
        await interaction.response.send_message(shorten(text, MESSAGE_LENGTH), ephemeral=True)
