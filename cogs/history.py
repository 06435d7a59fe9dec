"""`/history`: one's own pictures, page by page, and what was made one from another.

A page's buttons hold where it begins and what is searched for, so they work after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.archive.gallery import Page
from bot.archive.lineage import families
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.jobs import known_job
from bot.client.showing import show_outcome
from bot.delivery.visibility import ShownIn
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.errors import JobNotFound
from bot.jobs.offered_models import OfferedModels
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import plain, safe, shorten
from bot.messages.upload import Upload
from bot.pictures.grid import make_grid
from bot.rules.verdicts import Exposure
from bot.words import _, mark

log = logging.getLogger(__name__)

PAGE: Final = 6
# With the ids beside it, the searched text has to fit into a `custom_id`.
TEXT_LIMIT: Final = 60
_COLUMNS: Final = 3
_SHEET_SIDE: Final = 1200
_PROMPT_SHOWN: Final = 80


async def _sheet(bot: ImageBot, page: Page, place: ShownIn) -> Upload | None:
    """Return small versions of a page's pictures, covered where one of them has to be."""
    services = bot.services
    pictures = await services.gallery.first_pictures([job.id for job in page.jobs])
    spoiler = False
    for index, job in enumerate(page.jobs):
        images = (await services.queue.images(job.id))[:1]
        exposure = await services.cards.exposure(job, images, place)
        if exposure is Exposure.BLOCK:
            pictures[index] = None
        spoiler = spoiler or exposure is Exposure.SPOILER
    if not any(pictures):
        return None
    files = services.gallery.files(pictures)
    try:
        sheet = await asyncio.to_thread(make_grid, files, columns=_COLUMNS, longest=_SHEET_SIDE)
    except (OSError, SyntaxError, ValueError):
        log.exception("the pictures of a history page cannot be read")
        return None
    alt = _("Small versions of the pictures on this page")
    return Upload("history.png", sheet, alt, spoiler)


def _content(page: Page, text: str, models: OfferedModels, head: str) -> str:
    if not page.jobs:
        if text:
            return _("None of your pictures has these words in its prompt.")
        return linked(_("You have no pictures yet: `/imagine` draws the first."))
    lines = [head or _("**Your pictures**")]
    if text:
        lines = [_("**Your pictures with “{text}”**").format(text=safe(text, TEXT_LIMIT))]
    numbers = {job.id: number for number, job in enumerate(page.jobs, 1)}
    for number, job in enumerate(page.jobs, 1):
        prompt = " ".join(safe(job.request.prompt, _PROMPT_SHOWN).split())
        if parent := numbers.get(job.parent_id or ""):
            prompt = _("{prompt} (from {number})").format(prompt=prompt, number=parent)
        parts = [prompt, safe(models.shown(job), _PROMPT_SHOWN), f"<t:{job.created_at:.0f}:R>"]
        lines.append(f"{number}. {' · '.join(part for part in parts if part)}")
    return shorten("\n".join(lines), MESSAGE_LENGTH)


def _view(page: Page, text: str, kin: Sequence[Sequence[Job]]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    if page.jobs:
        options = [
            discord.SelectOption(
                label=f"{number}. {plain(job.request.prompt, _PROMPT_SHOWN)}", value=job.id
            )
            for number, job in enumerate(page.jobs, 1)
        ]
        view.add_item(
            discord.ui.Select[Any](
                custom_id="open:history", placeholder=_("Open one"), options=options
            )
        )
        if kin:
            families = [
                discord.SelectOption(
                    # A prompt may be of invisible marks alone, which a label leaves out.
                    label=plain(members[0].request.prompt, _PROMPT_SHOWN) or "…",
                    description=_("{count} pictures").format(count=len(members)),
                    value=members[-1].id,
                )
                for members in kin
            ]
            view.add_item(
                discord.ui.Select[Any](
                    custom_id="family:history",
                    placeholder=_("Show what was made from one picture"),
                    options=families,
                )
            )
        for way, label, edge, on in (
            ("after", _("Newer"), page.jobs[0].id, page.newer),
            ("before", _("Older"), page.jobs[-1].id, page.older),
        ):
            view.add_item(
                discord.ui.Button[discord.ui.View](
                    label=label,
                    emoji="◀️" if way == "after" else "▶️",
                    custom_id=f"page:{way}:{edge}:{text}",
                    disabled=not on,
                )
            )
    view.stop()
    return view


async def _show_page(
    interaction: discord.Interaction[Any], bot: ImageBot, page: Page, text: str, head: str = ""
) -> None:
    """Fill the deferred response with a page, under a heading of its own if it has one."""
    sheet = await _sheet(bot, page, ShownIn.of(interaction, alone=True))
    files: list[discord.File] = []
    embeds: list[discord.Embed] = []
    if sheet is not None:
        files = [sheet.file()]
        if not sheet.spoiler:
            embeds = [discord.Embed().set_image(url=f"attachment://{sheet.name}")]
    content = _content(page, text, bot.services.queue.models, head)
    kin = await families(bot.services.database, interaction.user.id, page.jobs)
    view = _view(page, text, [] if head else kin)
    await interaction.edit_original_response(
        content=content, embeds=embeds, attachments=files, view=view
    )


class PageButton(
    Control, template=rf"page:(?P<way>before|after):(?P<edge>{JOB_ID_PATTERN}):(?P<text>[\s\S]*)"
):
    """Turns to older or newer pictures."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        await interaction.response.defer()
        text, edge = self.state["text"], self.state["edge"]
        before, after = (edge, None) if self.state["way"] == "before" else (None, edge)
        page = await bot.services.gallery.page(
            interaction.user.id, PAGE, text=text, before=before, after=after
        )
        if not page.jobs:  # What stood there was deleted since.
            page = await bot.services.gallery.page(interaction.user.id, PAGE, text=text)
        await _show_page(interaction, bot, page, text)


class OpenMenu(Control, template=r"open:history"):
    """Shows one of the pictures of a page."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.chosen[0])
        if job.user_id != interaction.user.id:
            raise JobNotFound(_("There is no such picture of yours."))
        await interaction.response.defer(ephemeral=True, thinking=True)
        await show_outcome(interaction, bot, job)


class FamilyMenu(Control, template=r"family:history"):
    """Shows the pictures that go back to the same one, oldest first."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.chosen[0])
        if job.user_id != interaction.user.id:
            raise JobNotFound(_("There is no such picture of yours."))
        await interaction.response.defer()
        kin = await families(bot.services.database, interaction.user.id, [job])
        members = kin[0] if kin else [job]
        page = Page(members, newer=True, older=True)
        await _show_page(interaction, bot, page, "", _("**Made from one picture**"))


class History(commands.Cog):
    """What a user has drawn."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Look through your pictures."))
    @app_commands.describe(text=mark("Only pictures whose prompt has these words."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def history(
        self,
        interaction: discord.Interaction[ImageBot],
        text: app_commands.Range[str, 1, TEXT_LIMIT] | None = None,
    ) -> None:
        """Show the newest page, privately."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        words = (text or "").strip()
        page = await self.bot.services.gallery.page(interaction.user.id, PAGE, text=words)
        await _show_page(interaction, self.bot, page, words)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    bot.add_dynamic_items(PageButton, OpenMenu, FamilyMenu)
    await bot.add_cog(History(bot))
