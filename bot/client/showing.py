"""Ended jobs, shown again where they are asked for."""

from __future__ import annotations

import logging
from typing import Any

import discord

from bot.client.bot import ImageBot
from bot.delivery.errors import (
    FORESEEN,
    RetryLaterError,
    RungClosedError,
    TooLargeError,
    explain,
    is_filtered,
)
from bot.delivery.visibility import ShownIn
from bot.domain.job import Job
from bot.errors import DiscordRefused
from bot.messages.card import Card
from bot.words import _

log = logging.getLogger(__name__)


async def show_outcome(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Show an ended job in the interaction's deferred response; raise `DiscordRefused`."""

    # Edits the deferred response: follow-ups are few where the bot is not a member.
    async def send(card: Card) -> None:
        try:
            await interaction.edit_original_response(
                embed=card.embed, attachments=card.files(), view=card.view()
            )
        except FORESEEN as error:
            raise explain(error, by_token=True) from error

    try:
        await bot.services.cards.fitted(job, send, ShownIn.of(interaction, alone=True), apart=True)
    except (RungClosedError, RetryLaterError) as error:
        log.info("job %s could not be shown: %s", job.id, error)
        sentence = _("Discord did not take the answer. Please try `/show` again later.")
        if isinstance(error.__cause__, TooLargeError):
            sentence = _("The pictures are too large for Discord, even when they are made smaller.")
        elif is_filtered(str(error)):
            sentence = _("Discord's own filters refuse this answer, here too.")
        raise DiscordRefused(sentence) from error
    await bot.services.courier.fetched(job.id)
