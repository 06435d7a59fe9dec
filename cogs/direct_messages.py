"""A text message in a direct message to the bot is a prompt."""

from __future__ import annotations

import logging
import secrets

import discord
from discord.ext import commands

from bot.client import ImageBot
from bot.delivery.errors import FORESEEN, explain
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
            await _reply(message, error.sentence)
        except Exception:
            error_id = secrets.token_hex(3)
            log.exception("unexpected error %s in a direct message", error_id)
            await _reply(
                message,
                f"Something went wrong here. If it happens again, report the id `{error_id}`.",
            )


async def _reply(message: discord.Message, sentence: str) -> None:
    try:
        await message.channel.send(sentence)
    except FORESEEN as error:
        log.info("an answer could not be sent: %s", explain(error))


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(DirectMessages(bot))
