"""The report: the message in which moderators read what was reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import discord

from bot.archive.reports import Report
from bot.domain.job import Job
from bot.messages.details import code_block
from bot.messages.discord_limits import FIELD_LENGTH
from bot.messages.text import safe, shorten
from bot.pictures.parameters_written import png_texts
from bot.words import _

_PARAMETERS_SHOWN: Final = 2000
_REASON_SHOWN: Final = 100
_SHOWN: Final = 5
_RED: Final = discord.Colour(0xED4245)


def report_embed(job: Job, reports: Sequence[Report], model: str) -> discord.Embed:
    """Return who reported what, with the job's parameters and a link to the message."""
    first = reports[0]
    url = f"https://discord.com/channels/{first.guild_id}/{first.channel_id}/{first.message_id}"
    parameters = png_texts(job.id, job.request, job.model or model)[0]["parameters"]
    lines = [
        _("Asked for by {user} in {channel}: [the message]({url})").format(
            user=f"<@{job.user_id}>", channel=f"<#{first.channel_id}>", url=url
        ),
        code_block(shorten(parameters, _PARAMETERS_SHOWN)),
    ]
    embed = discord.Embed(
        title=_("A picture was reported"), description="\n".join(lines), colour=_RED
    )
    told = [
        f"<@{report.reporter_id}> <t:{report.at:.0f}:R>"
        + (f" · {safe(report.reason, _REASON_SHOWN)}" if report.reason else "")
        for report in reports[:_SHOWN]
    ]
    if len(reports) > _SHOWN:
        told.append(_("… and {count} more").format(count=len(reports) - _SHOWN))
    embed.add_field(
        name=_("Reported by"), value=shorten("\n".join(told), FIELD_LENGTH), inline=False
    )
    return embed.set_footer(text=job.id)


def report_view(job: Job) -> discord.ui.View:
    """Return what moderators can do; stopped, since a cog answers it."""
    view = discord.ui.View(timeout=None)
    for label, emoji, custom_id in (
        (_("Delete the picture"), "🗑️", f"rdelete:{job.id}"),
        (_("Block the user"), "⛔", f"rblock:{job.user_id}"),
    ):
        view.add_item(
            discord.ui.Button[Any](
                style=discord.ButtonStyle.danger,
                label=label,
                emoji=emoji,
                custom_id=custom_id,
            )
        )
    view.stop()
    return view
