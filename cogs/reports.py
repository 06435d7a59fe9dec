"""Reports of a picture to the server's moderators, and what they do about them.

It is a message menu, since six buttons stand under a picture already, and whoever reports a picture
is seldom the one it was made for. Who may act on a report is decided when a button is pressed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final
from weakref import WeakValueDictionary

import discord
from discord import app_commands
from typing_extensions import override

from bot.archive.reports import REASON_LIMIT, Report
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.forms import Form, FormValues, text_field, unreadable
from bot.client.jobs import known_job, own_job
from bot.client.reported import reported_pictures
from bot.delivery.errors import FORESEEN, explain
from bot.domain.ids import JOB_ID_PATTERN, SNOWFLAKE_PATTERN, is_job_id
from bot.errors import DiscordRefused, InvalidRequest, JobNotFound, NotAllowed
from bot.messages.report import report_embed, report_view
from bot.messages.upload import Upload
from bot.words import _, mark, speaking

log = logging.getLogger(__name__)

_editing: Final[WeakValueDictionary[int, asyncio.Lock]] = WeakValueDictionary()


def _edited_alone(message_id: int) -> asyncio.Lock:
    """Return what is held while a report's message is read and edited, so that no edit is lost."""
    return _editing.setdefault(message_id, asyncio.Lock())


async def _report_channel(interaction: discord.Interaction[Any], bot: ImageBot) -> int:
    """Return the moderators' channel; raise `InvalidRequest` where there is none."""
    guild_id = interaction.guild_id
    found = None
    if guild_id is not None and bot.get_guild(guild_id) is not None:
        found = await bot.services.preferences.report_channel(guild_id)
    if found is None:
        raise InvalidRequest(
            _("This server's moderators have chosen no channel for reports; tell them yourself.")
        )
    return found


def _for_all(interaction: discord.Interaction[Any]) -> AbstractContextManager[None]:
    """Speak the server's language: a report is read by all of its moderators."""
    return speaking(str(interaction.guild_locale or interaction.locale))


class ReportForm(Form, name="report"):
    """Why a picture is reported. The state is the job's id and the message's."""

    @override
    def title(self) -> str:
        return _("Report this picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        about = _("The server's moderators read it, with your name.")
        label = _("What is wrong with it")
        return [text_field("reason", label, required=False, about=about, longest=REASON_LIMIT)]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        services = bot.services
        channel_id = await _report_channel(interaction, bot)
        job_id, _comma, message_id = self.state.partition(",")
        if not is_job_id(job_id) or not message_id.isdecimal():
            raise unreadable()
        job = await known_job(bot, job_id, interaction.user.id)
        if job.guild_id != interaction.guild_id:
            raise InvalidRequest(_("This works on pictures of this server alone."))
        report = Report(
            job.id,
            interaction.user.id,
            interaction.guild_id or 0,
            interaction.channel_id or 0,
            int(message_id),
            services.reports.now(),
            values.texts.get("reason", "").strip()[:REASON_LIMIT],
        )
        found = await services.reports.add(report)
        await interaction.response.defer(ephemeral=True, thinking=True)
        with _for_all(interaction):
            embed, view = report_embed(job, found, services.model.name), report_view(job)
            uploads = await reported_pictures(bot, job)
        try:
            filed = await _file(bot, channel_id, embed, view, uploads, found)
        except FORESEEN as error:
            log.warning("a report could not be filed: %s", explain(error))
            await services.reports.take_back(report)
            raise DiscordRefused(
                _("The report could not be filed; please tell the moderators yourself.")
            ) from error
        await services.reports.filed(job.id, filed.channel.id, filed.id)
        await interaction.edit_original_response(
            content=_("Reported to the moderators. Thank you.")
        )


async def _file(
    bot: ImageBot,
    channel_id: int,
    embed: discord.Embed,
    view: discord.ui.View,
    uploads: Sequence[Upload],
    reports: Sequence[Report],
) -> discord.Message:
    """Post a report, or add it to the message about the same job."""
    for known in reports:
        if known.filed_channel_id == channel_id and known.filed_message_id is not None:
            channel = bot.get_partial_messageable(channel_id)
            # Deleted by a moderator: what is reported again is told again.
            with contextlib.suppress(discord.NotFound):
                return await _add_to(channel.get_partial_message(known.filed_message_id), embed)
    return await bot.get_partial_messageable(channel_id).send(
        embed=embed, view=view, files=[upload.file() for upload in uploads]
    )


async def _add_to(message: discord.PartialMessage, embed: discord.Embed) -> discord.Message:
    """Replace the report's embed; what was done about it stays at its end."""
    async with _edited_alone(message.id):
        # Where the bot may not read the history, the message is edited all the same.
        with contextlib.suppress(discord.Forbidden):
            before = (await message.fetch()).embeds
            done = (before[0].description or "").rpartition("```")[2] if before else ""
            embed.description = f"{embed.description}{done}"
        return await message.edit(embed=embed)


@app_commands.context_menu(name=mark("Report"))
@app_commands.allowed_installs(guilds=True, users=False)
@app_commands.allowed_contexts(guilds=True, dms=False, private_channels=False)
async def report_message(
    interaction: discord.Interaction[ImageBot], message: discord.Message
) -> None:
    """Open a form for what is wrong with one of the bot's pictures."""
    bot = interaction.client
    own = own_job(message, bot)
    if own is None:
        raise JobNotFound(_("This works on the bot's own pictures alone."))
    await _report_channel(interaction, bot)
    job = await known_job(bot, own[0], interaction.user.id)
    await ReportForm(f"{job.id},{message.id}").open(interaction)


class DeleteReported(Control, template=rf"rdelete:(?P<job>{JOB_ID_PATTERN})"):
    """Deletes the reported picture and every message that is known to show it."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        services = bot.services
        job = await services.queue.job(self.state["job"])
        if job is None:
            raise JobNotFound(_("This job is no longer known."))
        if not await bot.permissions.may_delete(interaction, job):
            raise NotAllowed(_("Only people with the Manage Messages permission may do this."))
        reports = await services.reports.of_job(job.id)
        places = await services.gallery.delete(
            job, by=interaction.user.id, moderator=True, guild_id=interaction.guild_id
        )
        with _for_all(interaction):
            done = _("🗑️ Deleted by {user}").format(user=f"<@{interaction.user.id}>")
        await _note(interaction, self.state[0], done)
        shown = {*places, *((report.channel_id, report.message_id) for report in reports)}
        for channel_id, message_id in shown:
            channel = bot.get_partial_messageable(channel_id)
            with contextlib.suppress(*FORESEEN):
                await channel.get_partial_message(message_id).delete()


class BlockReported(Control, template=rf"rblock:(?P<user>{SNOWFLAKE_PATTERN})"):
    """Blocks the user of a reported picture in this server, until a moderator ends it."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        guild_id = await bot.permissions.moderated_server(interaction)
        user = discord.Object(int(self.state["user"]))
        if await bot.permissions.is_bot_owner(user):  # pyright: ignore[reportArgumentType]
            raise InvalidRequest(_("The bot's owner cannot be blocked."))
        await bot.services.blocks.block(
            user.id, guild_id, by=interaction.user.id, seconds=None, reason=""
        )
        with _for_all(interaction):
            done = _("⛔ Blocked by {user}").format(user=f"<@{interaction.user.id}>")
        await _note(interaction, self.state[0], done)


async def _note(interaction: discord.Interaction[Any], pressed: str, done: str) -> None:
    """Write into the report what was done about it, and disable the button for it."""
    assert interaction.message is not None
    await interaction.response.defer()
    async with _edited_alone(interaction.message.id):
        # As it is now: what came with the press may be from before another moderator's.
        message = await interaction.original_response()
        # A moderator may have hidden the embeds: then there is none, and Discord keeps it hidden.
        shown = message.embeds
        embed = shown[0].copy() if shown else discord.Embed()
        embed.description = f"{embed.description or ''}\n{done}".strip()
        view = discord.ui.View.from_message(message, timeout=None)
        for item in view.walk_children():
            if isinstance(item, discord.ui.Button) and item.custom_id == pressed:
                item.disabled = True
        view.stop()
        await interaction.edit_original_response(embed=embed, view=view)


async def setup(bot: ImageBot) -> None:
    """Add the menu and the moderators' buttons."""
    bot.add_dynamic_items(DeleteReported, BlockReported)
    bot.tree.add_command(report_message)
