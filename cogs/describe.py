"""What is in a picture: `/describe`, "Describe this picture" in a menu, *Imagine this*."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.client.asking import accept_wish, compose_here
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.describing import describe_here
from bot.client.edit_sources import attached, last_picture, message_source
from bot.client.jobs import known_job
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.writing import Enhance, Writing
from bot.errors import InvalidRequest
from bot.jobs.compose import Asked
from bot.jobs.descriptions import read_description
from bot.words import _, language, mark


class ImagineButton(Control, template=rf"imagine:(?P<job>{JOB_ID_PATTERN})"):
    """Draws the prompt of a description, in the language of whoever presses it."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.state["job"], interaction.user.id, interaction.channel_id)
        if job.request.writes != Writing.DESCRIBE or not job.text:
            raise InvalidRequest(_("This description is no longer there."))
        prompt = read_description(job.text).prompt(chinese=language() != "en")
        # It was written for a model already.
        asked = Asked(prompt, enhance=Enhance.OFF, private=job.request.private or None)
        await accept_wish(interaction, bot, await compose_here(interaction, bot, asked))


@app_commands.context_menu(name=mark("Describe this picture"))
@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
async def describe_message(
    interaction: discord.Interaction[ImageBot], message: discord.Message
) -> None:
    """Describe a message's picture."""
    bot = interaction.client
    source = await message_source(bot, message, interaction.user.id, interaction.channel_id)
    await describe_here(interaction, bot, source)


class Describe(commands.Cog):
    """The command."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Say what is in a picture, with a prompt for it."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(
        image=mark("The picture; left out, your last one in this channel."),
        private=mark("Show the answer to you alone."),
    )
    async def describe(
        self,
        interaction: discord.Interaction[ImageBot],
        image: discord.Attachment | None = None,
        private: bool | None = None,
    ) -> None:
        """Accept the picture; the courier brings the text."""
        if image is not None:
            check_attachment(image)
            source = attached(self.bot, image)
        else:
            source = await last_picture(interaction, self.bot)
        await describe_here(interaction, self.bot, source, private=private)


async def setup(bot: ImageBot) -> None:
    """Add the command, the button and the menu."""
    bot.add_dynamic_items(ImagineButton)
    bot.tree.add_command(describe_message)
    await bot.add_cog(Describe(bot))
