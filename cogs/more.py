"""The menu "More" under a picture: what lies around it, and the step before."""

from __future__ import annotations

from typing import Any

import discord
from typing_extensions import override

from bot.client.asking import ask, editing_choice, model_of, models_for, start_of
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.edit_sources import job_picture
from bot.client.editing import require_right
from bot.client.jobs import known_job, may_see_step
from bot.client.showing import show_outcome
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.errors import InvalidRequest, NotAllowed
from bot.jobs.widen import WAYS, widened
from bot.messages.more import UNDO
from bot.words import _


class MoreMenu(Control, template=rf"more:(?P<job>{JOB_ID_PATTERN})(\.(?P<position>\d))?"):
    """Draws what is around a picture, or brings the step before it back into view."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.state["job"], interaction.user.id, interaction.channel_id)
        way = self.chosen[0]
        if way == UNDO:
            await _undo(interaction, bot, job)
        elif way in WAYS:
            await _widen(interaction, bot, job, int(self.state["position"] or 0), way)
        else:
            raise InvalidRequest(_("This menu can no longer be read."))


async def _widen(
    interaction: discord.Interaction[Any], bot: ImageBot, job: Job, position: int, way: str
) -> None:
    """Ask for what is around a picture; raise `UserError` where it is refused."""
    source = await job_picture(bot, job, position, interaction.user.id)
    await require_right(interaction, bot, source)
    image = await bot.services.gallery.picture(job, position)
    choice = await model_of(interaction, bot, job)
    edits = bool(job.request.references)
    if edits:
        choice = editing_choice(await models_for(interaction, bot), choice)
    request = widened(job, image, way, choice.spec)
    await ask(interaction, bot, job, request, start_of(bot, image, edits=edits))


async def _undo(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Show the picture that this one was made from, with its buttons, to who asks alone."""
    if job.parent_id is None:
        raise InvalidRequest(_("Nothing comes before this picture: it was made from words."))
    user_id, channel_id = interaction.user.id, interaction.channel_id
    before = await known_job(bot, job.parent_id, user_id, channel_id)
    if not may_see_step(before, job, user_id, channel_id):
        raise NotAllowed(_("What comes before this picture was made elsewhere, and stays there."))
    await interaction.response.defer(ephemeral=True, thinking=True)
    await show_outcome(interaction, bot, before)


async def setup(bot: ImageBot) -> None:
    """Register the menu."""
    bot.add_dynamic_items(MoreMenu)
