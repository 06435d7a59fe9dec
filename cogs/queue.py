"""`/queue`: my jobs, where they stand, and how to cancel them."""

from __future__ import annotations

from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.client import ImageBot
from bot.delivery.text import safe, shorten
from bot.jobs.model import Job, JobState
from bot.jobs.queue import JobQueue, Place
from bot.words import _, mark, ngettext
from cogs.controls import Control

MOST_SHOWN = 10
ENGINE_STATES: Final = {
    "stopped": mark("the model is not loaded"),
    "starting": mark("the engine starts"),
    "loading": mark("the model is being loaded"),
    "idle": mark("the graphics card is free"),
    "busy": mark("the graphics card is drawing"),
    "backoff": mark("the engine starts again"),
}
MOST_KEPT_SHOWN = 5
# Escaping may double what is shown; with ten lines all of it has to stay below 2,000 characters.
PROMPT_SHOWN = 40


def pause_line(reason: str) -> str:
    """Say that the queue is paused, and why."""
    return _("⏸️ The queue is paused: {reason}").format(reason=safe(_(reason), 100))


def drain_line(reason: str) -> str:
    """Say that nothing new is accepted, and why."""
    return _("🚰 No new requests are taken: {reason}. What is queued is still drawn.").format(
        reason=safe(_(reason), 100)
    )


def describe(job: Job, place: Place | None, reader_id: int) -> str:
    """Return one line about an open job; a private prompt is shown to its owner alone."""
    hidden = job.request.private and job.user_id != reader_id
    prompt = _("(private)") if hidden else " ".join(safe(job.request.prompt, PROMPT_SHOWN).split())
    if job.state is JobState.RUNNING:
        when = _("drawing now")
        if place is not None and place.ends_at is not None:
            when = _("drawing now, done {time}").format(time=f"<t:{place.ends_at:.0f}:R>")
    elif place is None:
        when = _("ending")
    else:
        when = _("next")
        if place.ahead:
            when = ngettext("{count} ahead", "{count} ahead", place.ahead).format(count=place.ahead)
        if place.starts_at is not None:
            when = _("{place}, starts {time}").format(
                place=when, time=f"<t:{place.starts_at:.0f}:R>"
            )
    return f"`{job.id}` {prompt} · {when}"


async def describe_all(queue: JobQueue, jobs: list[Job], reader_id: int) -> str:
    """Return a line for each of the first jobs, and how many more there are."""
    places = await queue.places()
    lines = [describe(job, places.get(job.id), reader_id) for job in jobs[:MOST_SHOWN]]
    if len(jobs) > MOST_SHOWN:
        lines.append(_("… and {count} more").format(count=len(jobs) - MOST_SHOWN))
    return "\n".join(lines)


def cancel_buttons(jobs: list[Job]) -> discord.ui.View:
    """Return a Cancel button for each of the first jobs, numbered as they are listed."""
    view = discord.ui.View(timeout=None)
    for number, job in enumerate(jobs[:MOST_SHOWN], 1):
        view.add_item(
            discord.ui.Button[discord.ui.View](
                label=_("Cancel {number}").format(number=number),
                emoji="🛑",
                custom_id=f"cancel:{job.id}",
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
    everyone = await queue.open_jobs()
    mine = [job for job in everyone if job.user_id == user_id]
    parts: list[str] = []
    if queue.paused is not None:
        parts.append(pause_line(queue.paused))
    elif queue.draining is not None:
        parts.append(drain_line(queue.draining))
    if mine:
        parts.append(await describe_all(queue, mine, user_id))
    else:
        parts.append(_("You have no job waiting or running."))
    kept = await bot.services.courier.kept_for(user_id)
    if kept:
        names = ", ".join(f"`{job_id}`" for job_id in kept[:MOST_KEPT_SHOWN])
        if len(kept) > MOST_KEPT_SHOWN:
            names = _("{jobs} and more").format(jobs=names)
        parts.append(_("📦 Could not be sent to you, see `/show`: {jobs}").format(jobs=names))
    count = len(everyone)
    total = ngettext(
        "{count} job in the queue in all", "{count} jobs in the queue in all", count
    ).format(count=count)
    parts.append(f"-# {total} · {_(ENGINE_STATES[bot.services.fleet.state.value])}")
    view = cancel_buttons(mine)
    view.add_item(
        discord.ui.Button[discord.ui.View](
            label=_("Refresh"), emoji="🔄", custom_id="refresh:queue", row=4
        )
    )
    return shorten("\n".join(parts), 2000), view


class RefreshButton(Control, template=r"refresh:queue"):
    """Brings a list of the queue up to date."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        content, view = await own_queue(bot, interaction.user.id)
        await interaction.response.edit_message(content=content, view=view)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    bot.add_dynamic_items(RefreshButton)
    await bot.add_cog(Queue(bot))
