"""`/queue`: my jobs, where they stand, and how to cancel them."""

from __future__ import annotations

from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.jobs import CANCEL_SENTENCES, list_open
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.queue_lines import ENGINE_STATES, drain_line, pause_line
from bot.messages.text import shorten
from bot.words import _, mark, ngettext

MOST_KEPT_SHOWN = 5
# What is said above and below the list needs the rest of a message.
_LIST_LENGTH: Final = MESSAGE_LENGTH - 600


def cancel_buttons(jobs: list[Job]) -> discord.ui.View:
    """Return a Cancel button for each of the jobs, numbered as they are listed."""
    view = discord.ui.View(timeout=None)
    for number, job in enumerate(jobs, 1):
        view.add_item(
            discord.ui.Button[discord.ui.View](
                label=_("Cancel {number}").format(number=number),
                emoji="🛑",
                custom_id=f"unqueue:{job.id}",
                disabled=job.cancel_requested_at is not None,
            )
        )
    view.stop()
    return view


class Queue(commands.Cog):
    """What a user can see of the queue."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show your jobs, their place and waiting time."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def queue(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the user's open jobs, and what waits to be fetched, privately."""
        content, view = await own_queue(self.bot, interaction.user.id)
        await interaction.response.send_message(content, view=view, ephemeral=True)


async def own_queue(bot: ImageBot, user_id: int) -> tuple[str, discord.ui.View]:
    """Return what a user reads of the queue, and the controls."""
    queue = bot.services.queue
    mine = await list_open(
        queue, lambda entry: entry.user_id == user_id, user_id, database=bot.services.database
    )
    if len(mine.text) > _LIST_LENGTH:  # Links are long, and a cut one is none.
        mine = await list_open(queue, lambda entry: entry.user_id == user_id, user_id)
    parts: list[str] = []
    if queue.control.paused is not None:
        parts.append(pause_line(queue.control.paused))
    elif queue.control.draining is not None:
        parts.append(drain_line(queue.control.draining))
    parts.append(mine.text or _("You have no job waiting or running."))
    kept = await bot.services.courier.kept_for(user_id)
    if kept:
        names = ", ".join(f"`{job_id}`" for job_id in kept[:MOST_KEPT_SHOWN])
        if len(kept) > MOST_KEPT_SHOWN:
            names = _("{jobs} and more").format(jobs=names)
        line = linked(_("📦 Could not be sent to you, see `/show`: {jobs}"))
        parts.append(line.format(jobs=names))
    count = mine.everyones
    total = ngettext(
        "{count} job in the queue in all", "{count} jobs in the queue in all", count
    ).format(count=count)
    parts.append(f"-# {total} · {_(ENGINE_STATES[bot.services.fleet.state.value])}")
    view = cancel_buttons(mine.jobs)
    view.add_item(
        discord.ui.Button[discord.ui.View](
            label=_("Refresh"), emoji="🔄", custom_id="refresh:queue", row=4
        )
    )
    return shorten("\n".join(parts), MESSAGE_LENGTH), view


class RefreshButton(Control, template=r"refresh:queue"):
    """Brings a list of the queue up to date."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        content, view = await own_queue(bot, interaction.user.id)
        await interaction.response.edit_message(content=content, view=view)


class UnqueueButton(Control, template=rf"unqueue:(?P<job>{JOB_ID_PATTERN})"):
    """Cancels a job of the presser's own in the list, which says so and is brought up to date."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        outcome = await bot.services.queue.cancel(self.state["job"], by=interaction.user.id)
        content, view = await own_queue(bot, interaction.user.id)
        told = f"{_(CANCEL_SENTENCES[outcome])}\n{content}"
        await interaction.response.edit_message(content=shorten(told, MESSAGE_LENGTH), view=view)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    bot.add_dynamic_items(RefreshButton, UnqueueButton)
    await bot.add_cog(Queue(bot))
