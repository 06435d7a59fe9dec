"""The settings of a user or of a server, shown with the controls that change them."""

from __future__ import annotations

from typing import Any

import discord

from bot.client.asking import models_for
from bot.client.bot import ImageBot
from bot.messages.names import ASPECT_NAMES, QUALITY_NAMES
from bot.messages.settings_panel import Panel
from bot.rules.preferences import UNSET


async def panel(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    scope: str,
    *,
    asks: str | None = None,
) -> Panel:
    """Return the settings of the user, or of the server that the interaction comes from."""
    preferences = bot.services.preferences
    if scope == "user":
        defaults = await preferences.user(interaction.user.id)
    else:
        defaults = await preferences.guild(interaction.guild_id)
    styles = await preferences.styles(interaction.guild_id)
    models = await models_for(interaction, bot)
    known = {quality for spec in models.offered for quality in spec.qualities}
    qualities = {name: title for name, title in QUALITY_NAMES.items() if name in known}
    shared = await preferences.guild(interaction.guild_id) if scope == "user" else UNSET
    spec = models.choose(None, [defaults, shared]).spec if models.allowed else models.offered[0]
    return Panel(scope, models, defaults, shared, spec, styles, ASPECT_NAMES, qualities, asks)


async def show_panel(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    scope: str,
    *,
    asks: str | None = None,
) -> None:
    """Answer with the settings, privately; or renew the message that has the controls."""
    shown = await panel(interaction, bot, scope, asks=asks)
    if interaction.message is not None and interaction.type is discord.InteractionType.component:
        await interaction.response.edit_message(embed=shown.embed(), view=shown.view())
    else:
        await interaction.response.send_message(
            embed=shown.embed(), view=shown.view(), ephemeral=True
        )
