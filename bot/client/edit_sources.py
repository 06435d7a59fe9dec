"""The pictures that edits refer to: where each comes from, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import discord

from bot.client.accept import PictureSource
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.jobs import known_job, own_job
from bot.client.message_pictures import first_picture
from bot.domain.job import Job
from bot.errors import InvalidRequest
from bot.rules.edit_rules import Whose
from bot.words import _


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that an edit refers to: what fetches it, whose it is.

    `job` and `position` say which of the bot's own it is, if it is one.
    """

    fetch: PictureSource
    whose: Whose = Whose.OWN
    job: Job | None = None
    position: int = 0

    @classmethod
    def of_kept(cls, fetch: PictureSource, whose: int) -> Self:
        """Return a picture that is kept for an open form."""
        return cls(fetch, Whose(whose))


def attached(bot: ImageBot, attachment: discord.Attachment) -> Source:
    """Return a picture that the one who edits sends along; raise `InvalidRequest`."""
    check_attachment(attachment)
    return Source(partial(bot.services.fetcher.fetch, attachment))


async def job_picture(bot: ImageBot, job: Job, position: int, user_id: int) -> Source:
    """Return a picture of the bot's for a user; raise `JobNotFound` where it is gone.

    Whether they may see it is asked before (`known_job`).
    """
    image = await bot.services.gallery.picture(job, position)
    whose = Whose.OWN if job.user_id == user_id else Whose.BOTS
    return Source(partial(bot.services.gallery.read, image), whose, job, position)


async def last_picture(interaction: discord.Interaction[Any], bot: ImageBot) -> Source:
    """Return the user's last picture of the channel; raise `InvalidRequest` without one."""
    user_id = interaction.user.id
    job = await bot.services.gallery.last_in_channel(user_id, interaction.channel_id or 0)
    if job is None:
        raise InvalidRequest(
            _("You have no picture in this channel yet: attach one, or draw one first.")
        )
    return await job_picture(bot, job, 0, user_id)


async def message_source(
    bot: ImageBot, message: discord.Message, user_id: int, channel_id: int | None
) -> Source:
    """Return a message's first picture, for a user who sees it in a channel.

    Raises what `known_job` does for the bot's own, `InvalidRequest` where there is no picture.
    """
    own = own_job(message, bot)
    if own is not None:
        job = await known_job(bot, own[0], user_id, channel_id)
        return await job_picture(bot, job, own[1] or 0, user_id)
    fetch = first_picture(message, bot.services.fetcher)
    return Source(fetch, Whose.OWN if message.author.id == user_id else Whose.ANY)
