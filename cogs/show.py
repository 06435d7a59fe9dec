"""`/show`: a job's outcome again, also when it could not be sent."""

from __future__ import annotations

import logging

import discord
from discord import app_commands
from discord.ext import commands

from bot.client.bot import ImageBot
from bot.client.showing import show_outcome
from bot.domain.ids import is_job_id
from bot.domain.job import JobState
from bot.errors import JobNotFound
from bot.jobs.feed import JobUpdate
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.outcome import progress
from bot.messages.status import progress_status, waiting_status
from bot.messages.text import plain
from bot.words import _, mark

log = logging.getLogger(__name__)


class Show(commands.Cog):
    """Fetching what was made."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show one of your pictures again."))
    @app_commands.describe(job=mark("The job's id: the last word under the picture."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def show(
        self, interaction: discord.Interaction[ImageBot], job: app_commands.Range[str, 1, 40]
    ) -> None:
        """Answer privately with the job as it stands."""
        services = self.bot.services
        job_id = job.strip().strip("`").lower()
        found = await services.queue.job(job_id) if is_job_id(job_id) else None
        if found is None or found.user_id != interaction.user.id:
            raise JobNotFound(
                _("There is no job of yours with that id; `/history` lists your pictures.")
            )
        if found.deleted_at is not None:
            raise JobNotFound(_("This picture was deleted."))
        if found.state.final:
            await interaction.response.defer(ephemeral=True, thinking=True)
            await show_outcome(interaction, self.bot, found)
            return
        place = await services.queue.place(job_id)
        if place is not None and found.state is JobState.QUEUED:
            status = waiting_status(place, services.queue.control.paused)
        else:
            news = services.queue.feed.latest(job_id)
            status = progress_status(news or JobUpdate(job_id, "running"))
        card = progress(found, status, model=services.queue.models.shown(found))
        await interaction.response.send_message(embed=card.embed, view=card.view(), ephemeral=True)

    @show.autocomplete("job")
    async def _jobs(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        text = current.strip().strip("`")
        jobs = await self.bot.services.gallery.latest(interaction.user.id, text, CHOICES)
        return [
            app_commands.Choice(
                name=f"{plain(job.request.prompt, CHOICE_LENGTH - 21)} · {job.id}", value=job.id
            )
            for job in jobs
        ]


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Show(bot))
