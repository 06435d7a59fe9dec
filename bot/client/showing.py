"""Ended jobs, shown again where they are asked for."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import discord

from bot.client.bot import ImageBot
from bot.client.places import category_of, parent_of
from bot.delivery.errors import (
    FORESEEN,
    RetryLaterError,
    RungClosedError,
    TooLargeError,
    explain,
    is_filtered,
)
from bot.delivery.visibility import ShownIn, why
from bot.domain.job import Job
from bot.errors import DiscordRefused, NotAllowed
from bot.messages.card import POST, Card
from bot.messages.command_mentions import linked
from bot.messages.layout import edit_of
from bot.rules.verdicts import Exposure
from bot.words import _

log = logging.getLogger(__name__)


async def require_posting(interaction: discord.Interaction[Any], bot: ImageBot) -> None:
    """Raise `UserError` where pictures may not be posted: what holds for asking holds for it."""
    await bot.services.blocks.require_unblocked(interaction.user.id, interaction.guild_id)
    await bot.services.preferences.require_open(
        interaction.guild_id,
        interaction.channel_id,
        parent_of(interaction.channel),
        category_of(interaction.channel),
    )


async def show_outcome(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Show an ended job in the interaction's deferred private response; raise `DiscordRefused`."""
    await _fill(interaction, bot, job, ShownIn.of(interaction, alone=True))


async def post_outcome(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Show an ended job to all of the interaction's channel, at its owner's wish.

    Raises `NotAllowed` where its pictures may not stand there, `JobNotFound` where it was deleted
    meanwhile, `DiscordRefused`.
    """
    services, place = bot.services, ShownIn.of(interaction, alone=False)
    images = await services.queue.images(job.id)
    exposure = await services.cards.exposure(job, images, place)
    if exposure in {Exposure.DM, Exposure.BLOCK}:
        raise NotAllowed(why(exposure, images))
    reply = await interaction.response.defer(thinking=True)
    if reply is not None and reply.message_id and interaction.channel_id:
        # Before anything is shown, so that nothing is shown that could not be deleted.
        await services.gallery.note_posting(job.id, interaction.channel_id, reply.message_id)
    await _fill(interaction, bot, job, place)


async def _fill(
    interaction: discord.Interaction[Any], bot: ImageBot, job: Job, place: ShownIn
) -> None:
    # Edits the deferred response: follow-ups are few where the bot is not a member.
    async def send(card: Card) -> None:
        if place.alone and card.uploads:
            card = replace(card, buttons=(*card.buttons, POST))
        try:
            await interaction.edit_original_response(**edit_of(card))
        except FORESEEN as error:
            raise explain(error, by_token=True) from error

    try:
        await bot.services.cards.fitted(job, send, place)
    except (RungClosedError, RetryLaterError) as error:
        log.info("job %s could not be shown: %s", job.id, error)
        sentence = linked(_("Discord did not take the answer. Please try `/show` again later."))
        if isinstance(error.__cause__, TooLargeError):
            sentence = _("The pictures are too large for Discord, even when they are made smaller.")
        elif is_filtered(str(error)):
            sentence = _("Discord's own filters refuse this answer, here too.")
        raise DiscordRefused(sentence) from error
    if interaction.user.id == job.user_id:
        await bot.services.courier.fetched(job.id)
