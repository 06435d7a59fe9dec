"""Answers to an interaction: in which language, privately, and what to say of an error."""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import discord
from discord import app_commands

from bot.delivery.errors import FORESEEN, explain, is_past, is_rate_limit
from bot.errors import UserError
from bot.errors.disk import refusal
from bot.logs import hide
from bot.messages.refusals import spoken
from bot.words import _, speak

if TYPE_CHECKING:
    from bot.client.bot import ImageBot

log = logging.getLogger(__name__)


def typed(data: Any) -> Iterator[str]:
    """Yield the words in an interaction's data: options, fields of forms, a menu's message."""
    if isinstance(data, dict):
        for name, value in cast("dict[str, Any]", data).items():
            if name in {"value", "content"} and isinstance(value, str):
                yield value
            else:
                yield from typed(value)
    elif isinstance(data, list):
        for value in cast("list[Any]", data):
            yield from typed(value)


async def use_language(interaction: discord.Interaction[Any]) -> str:
    """Speak the language of an interaction's user in the rest of this task; return its locale.

    What they typed is kept out of all that this task logs.
    """
    hide(*typed(interaction.data))
    bot: ImageBot = interaction.client
    try:
        chosen = (await bot.services.preferences.user(interaction.user.id)).language
    except sqlite3.Error:
        log.exception("a user's language could not be read")
        chosen = None
    locale = chosen or str(interaction.locale)
    speak(locale)
    return locale


async def reply_privately(interaction: discord.Interaction[Any], sentence: str) -> None:
    """Answer an interaction with a sentence that only its user sees; never raises."""
    try:
        if interaction.response.is_done():
            await interaction.followup.send(sentence, ephemeral=True)
        else:
            await interaction.response.send_message(sentence, ephemeral=True)
    except FORESEEN as error:
        # Too late, or already answered: nobody can be told any more.
        log.info("an answer could not be sent: %s", explain(error, by_token=True))


async def answer_error(interaction: discord.Interaction[Any], error: Exception) -> None:
    """Tell the user what went wrong: their own error's sentence, or an id that the log has too."""
    if isinstance(error, UserError):
        await reply_privately(interaction, spoken(error))
    elif isinstance(error, app_commands.CheckFailure):
        await reply_privately(interaction, _("You may not use this here."))
    elif isinstance(error, app_commands.CommandNotFound | app_commands.CommandSignatureMismatch):
        await reply_privately(
            interaction, _("This command has changed; reload Discord (Ctrl+R) and try again.")
        )
    elif isinstance(error, app_commands.TransformerError):
        await reply_privately(
            interaction,
            _("One of the options cannot be used here; please check them and try again."),
        )
    elif reason := refusal(error):
        log.error("a command was refused: %s", error)
        sentence = _("Not done: {reason}. Please try again later.").format(reason=_(reason))
        await reply_privately(interaction, sentence)
    elif is_past(error, answered=interaction.response.is_done()):
        log.warning("an answer is gone, or too late: %s", explain(error, by_token=True))
    elif is_rate_limit(error):
        # Whatever is said now would only be refused too.
        log.warning("an interaction is left without an answer: %s", explain(error))
    elif interaction.client.services.queue.control.closed:
        # What it needed was closed under it. What was accepted is answered after the next start.
        cause = type(error.__cause__ or error).__name__
        log.warning("an interaction is left without an answer: the bot stops (%s)", cause)
    else:
        short_id = secrets.token_hex(3)
        log.error("unexpected error %s in an interaction", short_id, exc_info=error)
        await reply_privately(
            interaction,
            _("Something went wrong here. If it happens again, report the id `{error}`.").format(
                error=short_id
            ),
        )
