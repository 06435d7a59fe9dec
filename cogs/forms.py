"""Forms that come back, handed to their classes."""

from __future__ import annotations

from typing import Any

import discord
from discord.ext import commands

from bot.client.answers import answer_error, reply_privately, use_language
from bot.client.bot import ImageBot
from bot.client.forms import PREFIX, Form, form_values, state_of
from bot.words import _


class Forms(commands.Cog):
    """Passes forms that come back to their classes."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Take a form of ours."""
        if interaction.type is not discord.InteractionType.modal_submit:
            return
        custom_id = str((interaction.data or {}).get("custom_id"))
        prefix, _colon, rest = custom_id.partition(":")
        name, _colon, state = rest.partition(":")
        if prefix != PREFIX:
            return
        await use_language(interaction)
        form = Form.known.get(name)
        if form is None:
            await reply_privately(
                interaction,
                _("This form is from an older version of the bot; please open it anew."),
            )
            return
        try:
            found = form(await state_of(interaction, state))
            await found.submitted(interaction, self.bot, form_values(interaction))
        except Exception as error:  # noqa: BLE001 - discord.py would only log it
            await answer_error(interaction, error)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Forms(bot))
