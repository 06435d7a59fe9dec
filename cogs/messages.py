"""Messages to the bot: prompts in direct messages, and replies to pictures, which are edits.

In a server's channel a reply counts where its text mentions the bot. That Discord pings the author
of what is replied to is not enough: most replies to a picture are talk about it.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import discord
from discord.ext import commands

from bot.client.asking import compose_directly
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.edit_sources import Source, message_source
from bot.client.editing import Instruction, edit_by_message
from bot.client.jobs import own_job
from bot.client.message_pictures import is_forward, shows_picture
from bot.delivery.errors import FORESEEN, explain, is_rate_limit
from bot.errors import InvalidRequest, UserError
from bot.jobs.compose import DEFAULT_STRENGTH, Asked
from bot.logs import hide
from bot.messages.refusals import spoken
from bot.words import _, speak

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[bytes]]


class Messages(commands.Cog):
    """Prompts by direct message, edits by reply."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Accept what is asked for, or say why not."""
        if message.author.bot:
            return
        if message.type not in {discord.MessageType.default, discord.MessageType.reply}:
            return
        direct = isinstance(message.channel, discord.DMChannel)
        text = message.content if direct else self._addressed(message)
        if text is None:
            return
        hide(message.content)
        try:
            # A message does not say which language its author uses.
            speak(await self.bot.services.preferences.last_locale(message.author.id))
            original = await self._replied_to(message)
            instruction = await self._instruction(message, original, text)
            if instruction is not None:
                await edit_by_message(message, self.bot, instruction)
            else:
                await self._draw(message, direct=direct)
        except UserError as error:
            await _reply(message, spoken(error))
        except Exception as error:
            if is_rate_limit(error):
                log.warning("a message is left without an answer: %s", explain(error))
                return
            error_id = secrets.token_hex(3)
            log.exception("unexpected error %s in a message", error_id)
            await _reply(
                message,
                _(
                    "Something went wrong here. If it happens again, report the id `{error}`."
                ).format(error=error_id),
            )

    def _addressed(self, message: discord.Message) -> str | None:
        """Return what a server's message says to the bot, if it is a reply that mentions it."""
        own = self.bot.user
        if own is None or message.guild is None or message.type is not discord.MessageType.reply:
            return None
        mention = re.compile(rf"<@!?{own.id}>")
        if not mention.search(message.content):
            return None
        return mention.sub(" ", message.content).strip()

    async def _draw(self, message: discord.Message, *, direct: bool) -> None:
        """Accept a prompt; raise `InvalidRequest` in a server, where messages are none."""
        if not direct:
            raise InvalidRequest(
                _(
                    "I see no picture there: reply to one of mine. For other people's pictures, "
                    "use *Edit this picture* in the message's menu, under Apps."
                )
            )
        asked, fetch = await self._asked(message)
        wish = await compose_directly(self.bot, asked, message.author.id)
        await self.bot.services.intake.from_message(
            message, wish.request, model=wish.model, picture=fetch, sizes=wish.sizes
        )
        if line := wish.left_out():
            await _reply(message, line)

    async def _instruction(
        self, message: discord.Message, original: discord.Message | None, text: str
    ) -> Instruction | None:
        """Return what a reply to a picture asks for; None where it is no such reply.

        The first picture that comes with it may be a copy of that picture that somebody drew on.
        """
        if original is None:
            return None
        if own_job(original, self.bot) is None and not shows_picture(original):
            return None
        if not text.strip():
            raise InvalidRequest(_("Say in the reply what to make of the picture."))
        for attachment in message.attachments:
            check_attachment(attachment)
        fetcher = self.bot.services.fetcher
        marked, *others = [partial(fetcher.fetch, one) for one in message.attachments] or [None]
        author = message.author.id
        channel_id = message.channel.id if message.guild else None
        source = await message_source(self.bot, original, author, channel_id)
        sources = [source, *(Source(fetch) for fetch in others if fetch is not None)]
        return Instruction(text, sources, marked=marked)

    async def _asked(self, message: discord.Message) -> tuple[Asked, Fetch | None]:
        """Return what a message asks for, and what fetches the picture that it starts from."""
        asked = Asked(message.content)
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
            fetch = partial(self.bot.services.fetcher.fetch, attachment)
            return replace(asked, strength=DEFAULT_STRENGTH), fetch
        return asked, None

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
    await bot.add_cog(Messages(bot))
