"""`/show`: a job's outcome again, also when it could not be sent."""

from __future__ import annotations

import logging
import time

import discord
from discord import app_commands
from discord.ext import commands

from bot.client.bot import ImageBot
from bot.client.showing import show_outcome
from bot.domain.ids import is_job_id
from bot.domain.job import Job, JobState
from bot.errors import JobNotFound
from bot.jobs.derive import made_by
from bot.jobs.feed import JobUpdate
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.layout import message_of
from bot.messages.names import MADE_BY
from bot.messages.outcome import progress
from bot.messages.queue_lines import WRITES
from bot.messages.status import progress_status, waiting_status
from bot.messages.text import ago, plain
from bot.words import _, mark, ngettext

log = logging.getLogger(__name__)


class Show(commands.Cog):
    """Fetching what was made."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show one of your pictures again."))
    @app_commands.describe(job=mark("Which one; a job's id stands in its details, too."))
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
                linked(_("There is no job of yours with that id; `/history` lists your pictures."))
            )
        if found.deleted_at is not None:
            raise JobNotFound(_("This picture was deleted."))
        if found.state.final:
            await interaction.response.defer(ephemeral=True, thinking=True)
            await show_outcome(interaction, self.bot, found)
            return
        place = await services.queue.place(job_id)
        if place is not None and found.state is JobState.QUEUED:
            start = services.queue.forecast.awaited(found)
            status = waiting_status(place, services.queue.control.paused, start)
        else:
            news = services.queue.feed.latest(job_id)
            status = progress_status(news or JobUpdate(job_id, "running"))
        card = progress(found, status, model=services.queue.models.shown(found))
        await interaction.response.send_message(**message_of(card), ephemeral=True)

    @show.autocomplete("job")
    async def _jobs(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        text = current.strip().strip("`")
        jobs = await self.bot.services.gallery.latest(interaction.user.id, text, CHOICES)
        return [app_commands.Choice(name=_told_apart(job), value=job.id) for job in jobs]


def _told_apart(job: Job) -> str:
    """Return a line on a job that tells it from others of the same prompt."""
    made = made_by(job.request)
    size = f"{job.request.width}x{job.request.height}"
    said = _(MADE_BY[made]) if made else None
    if job.request.writes:
        said, size = None, _(WRITES[job.request.writes])
    parts = [ago(time.time() - job.created_at), size, *([said] if said else [])]
    if job.request.pictures > 1:
        counted = ngettext("{count} picture", "{count} pictures", job.request.count)
        parts.append(counted.format(count=job.request.count))
    rest = f" · {' · '.join(parts)}"
    return f"{plain(job.request.prompt, CHOICE_LENGTH - len(rest))}{rest}"


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Show(bot))
