"""`/help`: short."""

from __future__ import annotations

from collections.abc import Sequence

import discord
from discord import app_commands
from discord.ext import commands

from bot.catalogue.models import ModelSpec
from bot.catalogue.writers import writer
from bot.client.bot import ImageBot
from bot.messages.command_mentions import linked
from bot.words import _, mark


def help_text(models: Sequence[ModelSpec]) -> str:
    """Return the page, within the length of one message; at its end what draws, and its licence."""
    drawn: list[str] = []
    if len(models) > 1 or not models[0].built_in:
        names = ", ".join(spec.name for spec in models)
        drawn = ["", _("Drawn by {model}.").format(model=names)]
    several = len(models) > 1
    for spec in models:
        if spec.published is not None and not spec.published.commercial:
            drawn.append(
                _("⚠️ The licence of {model} allows no commercial use.").format(model=spec.name)
                if several
                else _("⚠️ The model's licence allows no commercial use.")
            )
    written: list[str] = []
    if writer(models) is not None:
        written = [
            _("`/imagine` with enhance: your prompt rewritten · `/describe` what is in a picture")
        ]
    lines = (
        _("**Say what you want to see**"),
        _("`/imagine`, then `prompt: a lighthouse at night`; or write to me in a direct message."),
        _("Put words that should appear in the picture in quotes, in English or Chinese:"),
        _('> a shop window at dusk, a neon sign that says "OPEN"'),
        "> 一家茶馆的招牌，上面写着“清风”",
        "",
        _("**Under a picture**"),
        _("🔁 Reroll: the same with a new seed · 🎨 Vary: another one like it"),
        _("✏️ Edit: say what to change · 🔀 Remix: other words · ⬆️ Upscale: twice as large"),
        _("U1 to U4, V1 to V4 under a grid: Upscale or Vary of that picture · 🖼️ take it out"),
        _("ℹ️ Details: everything that was set · 🗑️ Delete"),
        "",
        _("**More**"),
        _("`/compose` a form: many lines, menus, a picture to start from · `/edit` by words"),
        *written,
        _("`/queue` where your pictures are · `/history` your pictures · `/show` one again"),
        _("`/settings` your defaults, language, and how you are notified · `/limits` what is left"),
        _("`/privacy export` and `/privacy delete` your data"),
        _("Right-click a message, Apps: use or edit its picture, show its parameters."),
    )
    return "\n".join((*map(linked, lines), *drawn))


class Help(commands.Cog):
    """The short page."""

    @app_commands.command(description=mark("How to draw, in a few lines."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def help(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Answer with the page, privately."""
        await interaction.response.send_message(
            help_text(interaction.client.services.models), ephemeral=True
        )


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Help())
