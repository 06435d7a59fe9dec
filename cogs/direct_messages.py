"""Direct messages to the bot: the text is a prompt, a picture with it is its input."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import discord
from discord.ext import commands

from bot.client.asking import compose_directly
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.jobs import known_job, own_job
from bot.client.message_pictures import first_picture, is_forward, shows_picture
from bot.delivery.errors import FORESEEN, explain, is_rate_limit
from bot.errors import InvalidRequest, UserError
from bot.jobs.compose import DEFAULT_STRENGTH, Asked
from bot.logs import hide
from bot.messages.refusals import spoken
from bot.words import _, speak

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[bytes]]


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
        hide(message.content)
        try:
            services = self.bot.services
            # A message does not say which language its author uses.
            locale = await services.preferences.last_locale(message.author.id)
            speak(locale)
            asked, fetch = await self._asked(message)
            wish = await compose_directly(self.bot, asked, message.author.id)
            await services.intake.from_message(
                message, wish.request, model=wish.model, picture=fetch, sizes=wish.sizes
            )
        except UserError as error:
            await _reply(message, spoken(error))
        except Exception as error:
            if is_rate_limit(error):
                log.warning("a direct message is left without an answer: %s", explain(error))
                return
            error_id = secrets.token_hex(3)
            log.exception("unexpected error %s in a direct message", error_id)
            await _reply(
                message,
                _(
                    "Something went wrong here. If it happens again, report the id `{error}`."
                ).format(error=error_id),
            )

    async def _asked(self, message: discord.Message) -> tuple[Asked, Fetch | None]:
        """Return what a message asks for, and what fetches the picture that it starts from."""
        asked = Asked(message.content)
        services = self.bot.services
        if is_forward(message):
            if shows_picture(message):
                raise InvalidRequest(
                    _("Reply to the forwarded message with what to make of its picture.")
                )
            raise InvalidRequest(
                _("A forwarded message has no words of yours; send the prompt as a message.")
            )
        if message.attachments:
            if len(message.attachments) > 1:
                raise InvalidRequest(_("Please send one picture at a time."))
            (attachment,) = message.attachments
            check_attachment(attachment)
            if not message.content.strip():
                raise InvalidRequest(_("Say in the same message what to make of the picture."))
            fetch = partial(services.fetcher.fetch, attachment)
            return replace(asked, strength=DEFAULT_STRENGTH), fetch
        original = await self._replied_to(message)
        if original is None:
            return asked, None
        own = own_job(original, self.bot)
        if own is not None:
            job = await known_job(self.bot, own[0], message.author.id)
            image = await services.gallery.picture(job, own[1] or 0)
            asked = replace(asked, strength=DEFAULT_STRENGTH, parent=job.id)
            return asked, partial(services.gallery.read, image)
        if not shows_picture(original):
            return asked, None
        asked = replace(asked, strength=DEFAULT_STRENGTH)
        return asked, first_picture(original, services.fetcher)

    async def _replied_to(self, message: discord.Message) -> discord.Message | None:
        """Return the message that a message replies to, if it does."""
        reference = message.reference
        if reference is None or reference.message_id is None:
            return None
        original = reference.resolved
        if not isinstance(original, discord.Message):
            try:
                original = await message.channel.fetch_message(reference.message_id)
            except FORESEEN as error:
                log.info("the message replied to is not there: %s", explain(error))
                return None
        return original


async def _reply(message: discord.Message, sentence: str) -> None:
    try:
        await message.channel.send(sentence)
    except FORESEEN as error:
        log.info("an answer could not be sent: %s", explain(error))


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(DirectMessages(bot))
