"""`/show`: a job's outcome again, also when it could not be sent."""

from __future__ import annotations

import logging

import discord
from discord import app_commands
from discord.ext import commands

from bot.client import ImageBot
from bot.delivery.card import Card
from bot.delivery.errors import FORESEEN, RetryLaterError, RungClosedError, explain
from bot.delivery.render import progress
from bot.delivery.status import progress_status, waiting_status
from bot.errors import DiscordRefused, JobNotFound
from bot.jobs.feed import JobUpdate
from bot.jobs.ids import is_job_id
from bot.jobs.model import Job, JobState

log = logging.getLogger(__name__)


class Show(commands.Cog):
    """Fetching what was made."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description="Show one of your pictures again.")
    @app_commands.describe(job="The job's id: the last word under the picture.")
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
                "There is no job of yours with that id; `/queue` lists the open ones."
            )
        if found.state.final:
            await interaction.response.defer(ephemeral=True, thinking=True)
            await self._show_outcome(interaction, found)
            return
        place = await services.queue.place(job_id)
        if place is not None and found.state is JobState.QUEUED:
            status = waiting_status(place, services.queue.paused)
        else:
            news = services.queue.feed.latest(job_id)
            status = progress_status(news or JobUpdate(job_id, "running"))
        card = progress(found, status)
        await interaction.response.send_message(embed=card.embed, view=card.view(), ephemeral=True)

    async def _show_outcome(self, interaction: discord.Interaction[ImageBot], job: Job) -> None:
        # Edits the deferred response: follow-ups are few where the bot is not a member.
        async def send(card: Card) -> None:
            try:
                await interaction.edit_original_response(
                    embed=card.embed, attachments=card.files(), view=card.view()
                )
            except FORESEEN as error:
                raise explain(error, by_token=True) from error

        courier = self.bot.services.courier
        try:
            await courier.fitted(job, send, apart=True)
        except (RungClosedError, RetryLaterError) as error:
            log.info("job %s could not be shown: %s", job.id, error)
            raise DiscordRefused(
                f"Discord did not take the answer ({error}). Please try `/show` again later."
            ) from error
        await courier.fetched(job.id)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Show(bot))
