"""`/admin queue`: everyone's jobs page by page, each with a way to cancel it.

The page is the whole state of its controls, so they work after a restart; who may use
them is checked at each press.
"""

from __future__ import annotations

from typing import Any, Final

import discord
from typing_extensions import override

from bot.client.answers import reply_privately
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.jobs import CANCEL_SENTENCES, list_open
from bot.domain.job import Job
from bot.errors import JobNotFound
from bot.jobs.schedule import Unfinished
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.queue_lines import MOST_SHOWN, drain_line, pause_line
from bot.messages.text import plain, shorten
from bot.words import _

_PROMPT_SHOWN: Final = 60


async def scope(interaction: discord.Interaction[Any], bot: ImageBot) -> int | None:
    """Return the server whose affairs the user may see; None for the owner, who may see all.

    Raises `NotAllowed`.
    """
    await bot.permissions.require_moderator(interaction)
    return None if await bot.permissions.is_bot_owner(interaction.user) else interaction.guild_id


async def everyones_queue(
    interaction: discord.Interaction[Any], bot: ImageBot, page: int = 0
) -> tuple[str, discord.ui.View]:
    """Return what a moderator reads of the queue, and the controls. Raises `NotAllowed`."""
    guild_id = await scope(interaction, bot)
    queue = bot.services.queue

    def picked(entry: Unfinished) -> bool:
        return guild_id is None or entry.server == guild_id

    reader_id = interaction.user.id
    found = await list_open(queue, picked, reader_id, page * MOST_SHOWN)
    last = max(0, found.picked - 1) // MOST_SHOWN
    if page > last:
        page = last
        found = await list_open(queue, picked, reader_id, page * MOST_SHOWN)
    lines: list[str] = []
    if queue.control.paused is not None:
        lines.append(pause_line(queue.control.paused))
    elif queue.control.draining is not None:
        lines.append(drain_line(queue.control.draining))
    lines.append(found.text or _("The queue is empty."))
    view = discord.ui.View(timeout=None)
    if found.jobs:
        view.add_item(_menu(found.jobs, page, reader_id, page * MOST_SHOWN))
    for label, emoji, way, to, on in (
        (_("Back"), "◀️", "back", page - 1, page > 0),
        (_("Refresh"), "🔄", "stay", page, True),
        (_("Next"), "▶️", "next", page + 1, found.more > 0),
    ):
        view.add_item(
            discord.ui.Button[discord.ui.View](
                label=label, emoji=emoji, custom_id=f"everyone:{way}:{max(0, to)}", disabled=not on
            )
        )
    view.stop()
    return shorten("\n".join(lines), MESSAGE_LENGTH), view


def _menu(jobs: list[Job], page: int, reader_id: int, skipped: int) -> discord.ui.Select[Any]:
    options: list[discord.SelectOption] = []
    for number, job in enumerate(jobs, skipped + 1):
        hidden = job.request.private and job.user_id != reader_id
        prompt = _("(private)") if hidden else plain(job.request.prompt, _PROMPT_SHOWN)
        options.append(
            discord.SelectOption(label=f"{number}. {prompt}", value=job.id, description=job.id)
        )
    return discord.ui.Select[Any](
        custom_id=f"endjob:{page}", placeholder=_("Cancel a job"), options=options
    )


class EveryonePageButton(Control, template=r"everyone:(?:back|stay|next):(?P<page>\d{1,4})"):
    """Turns the pages of everyone's jobs, or brings one up to date."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        content, view = await everyones_queue(interaction, bot, int(self.state["page"]))
        await interaction.response.edit_message(content=content, view=view)


class EndJobMenu(Control, template=r"endjob:(?P<page>\d{1,4})"):
    """Cancels the chosen job."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        sentence = await cancel_managed(interaction, bot, self.chosen[0])
        content, view = await everyones_queue(interaction, bot, int(self.state["page"]))
        await interaction.response.edit_message(content=content, view=view)
        await reply_privately(interaction, sentence)


async def cancel_managed(interaction: discord.Interaction[Any], bot: ImageBot, job_id: str) -> str:
    """Cancel anyone's job for a moderator; return what to tell.

    Raises `NotAllowed`, or `JobNotFound` for a job of another server.
    """
    await bot.permissions.require_moderator(interaction)
    queue = bot.services.queue
    job = await queue.job(job_id)
    if job is None or not await bot.permissions.may_manage(interaction, job):
        raise JobNotFound(_("There is no such job on this server."))
    outcome = await queue.cancel(job_id, by=interaction.user.id, moderator=True)
    return _(CANCEL_SENTENCES[outcome])
