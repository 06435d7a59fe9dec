"""A text message in a direct message to the bot is a prompt."""

from __future__ import annotations

import logging

import discord
from discord.ext import commands

from bot.client import ImageBot
from bot.delivery.text import safe
from bot.errors import InvalidRequest, UserError
from cogs.imagine import build_request

log = logging.getLogger(__name__)


def _refuse_attachments(message: discord.Message) -> None:
    """Refuse attached files by name: prompts are text here."""
    for attachment in message.attachments:
        name = safe(attachment.filename, 100)
        kind = safe(attachment.content_type or "an unknown kind", 60)
        raise InvalidRequest(
            f"I cannot use the file {name} ({kind}): send the description as text, without files."
        )


class DirectMessages(commands.Cog):
    """Prompts by direct message."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Accept a prompt, or say why not; only in direct messages with the bot itself."""
        if message.author.bot or not isinstance(message.channel, discord.DMChannel):
            return
        if message.type not in {discord.MessageType.default, discord.MessageType.reply}:
            return
        try:
            _refuse_attachments(message)
            request = build_request(self.bot.services.model, message.content)
            await self.bot.services.reception.from_message(message, request)
        except UserError as error:
            await message.channel.send(error.sentence)
        except Exception:
            log.exception("a direct message could not be handled")
            await message.channel.send("Something went wrong here; please send that again.")


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(DirectMessages(bot))
