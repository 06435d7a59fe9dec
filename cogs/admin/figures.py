"""`/admin stats`, `health` and `audit`: what there is to know, told to those whom it concerns.

A server's moderators see the figures of their server; the machine's are for those who may act on
the whole bot.
"""

from __future__ import annotations

import asyncio
import io
import math
from typing import Final

import discord
from discord import app_commands
from discord.ext import commands

from bot import __version__
from bot.archive.statistics import Condition, DayCount, Figures
from bot.client.bot import ImageBot
from bot.domain.job import JobState
from bot.machine.usage import Machine, look
from bot.messages import charts
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.queue_lines import ENGINE_STATES, drain_line, pause_line
from bot.messages.text import safe, shorten
from bot.words import DEFAULT, _, language_of, mark, ngettext, speaking
from cogs.admin.audit import ACTION_LIMIT, audit_page
from cogs.admin.engines import engine_lines
from cogs.admin.queue import scope

_DAYS: Final = 14
_GIB: Final = 2**30
_MIB: Final = 2**20
_DETAIL_SHOWN: Final = 200


def _labels() -> charts.Labels:
    return charts.Labels(
        jobs=_("Jobs a day (UTC)"),
        waits=_("Waiting time: this share waited at most"),
        hours=_("Use of the graphics card, last 24 hours (UTC)"),
        shares=_("Share of the graphics card's time"),
        drawn=_("drawn"),
        failed=_("failed"),
        cancelled=_("cancelled"),
        waiting=_("open"),
        others=_("others"),
        nothing=_("nothing yet"),
    )


def _picture(figures: Figures, locale: str) -> bytes:
    """Draw the figures, in English where no font has the language's characters."""
    if language_of(locale) != DEFAULT and not charts.speaks_chinese():
        locale = "en-US"
    with speaking(locale):
        return charts.draw(figures, _labels())


def _day_line(day: DayCount) -> str:
    return _(
        "`{day}` {total}: {drawn} drawn, {failed} failed, {cancelled} cancelled, {open} open"
    ).format(
        day=day.day,
        total=day.total,
        drawn=day.generated,
        failed=day.failed,
        cancelled=day.cancelled,
        open=day.open,
    )


def _in_words(figures: Figures, *, whole: bool) -> str:
    """Return the shares by name, and with `whole` all the other figures too."""
    days = figures.days
    period = ngettext(
        "**Jobs of the last {count} day: {jobs}**",
        "**Jobs of the last {count} days: {jobs}**",
        len(days),
    )
    lines = [period.format(count=len(days), jobs=figures.total)]
    if whole:
        lines += [_day_line(day) for day in days if day.total]
        if figures.waits:
            waits = ", ".join(
                f"{percent} % ≤ {charts.duration(seconds)}"
                for percent, seconds in figures.waits.items()
            )
            lines.append(_("Waiting time: {waits}").format(waits=waits))
        hours = ", ".join(
            f"{(figures.first_hour + place) % 24:02}h {share:.0%}"
            for place, share in enumerate(figures.hours)
            if share >= 0.005  # noqa: PLR2004 - what would be shown as 0 %
        )
        if hours:
            lines.append(_("Use of the graphics card (UTC): {hours}").format(hours=hours))
    for number, (user_id, share) in enumerate(figures.shares, 1):
        who = _("others") if user_id is None else f"#{number} <@{user_id}>"
        lines.append(f"{who} {share:.0%}")
    return shorten("\n".join(lines), MESSAGE_LENGTH)


def _machine_lines(bot: ImageBot, machine: Machine, condition: Condition) -> list[str]:
    services = bot.services
    lines = [
        _("Disk: {free} GiB free of {total} GiB").format(
            free=f"{machine.disk_free / _GIB:.1f}", total=f"{machine.disk_total / _GIB:.1f}"
        ),
        _("Database: {size} MiB").format(size=f"{machine.database_bytes / _MIB:.1f}"),
    ]
    lines += engine_lines(services.fleet, services.queue.feed, cards=True)
    for card in machine.cards:
        lines.append(
            _("Graphics card: {used} of {total} GiB used").format(
                used=f"{card.used / _GIB:.1f}", total=f"{card.total / _GIB:.1f}"
            )
        )
    if not machine.cards:
        lines.append(_("Graphics card: none is reported"))
    if condition.peak_gpu_bytes is not None:
        lines.append(
            _("The last picture took {size} GiB of it").format(
                size=f"{condition.peak_gpu_bytes / _GIB:.1f}"
            )
        )
    servers = ngettext("{count} server", "{count} servers", len(bot.guilds))
    lines.append(servers.format(count=len(bot.guilds)))
    if (fault := condition.fault) is None:
        lines.append(_("Last error of the engine: none"))
    else:
        lines.append(
            _("Last error of the engine: {time}, `{job}`: {detail}").format(
                time=f"<t:{fault.at:.0f}:R>",
                job=fault.job_id,
                detail=" ".join(safe(fault.detail, _DETAIL_SHOWN).split()),
            )
        )
    uses = [slot.card_use for slot in services.fleet.slots.values()]
    if any(use is not None and use.budget is not None for use in uses):
        return lines  # the engines have said what it is
    if (budget := services.settings.image_vram_gb) is None:
        lines.append(_("Budget of the engine: what is free on the card"))
    else:
        lines.append(_("Budget of the engine: at most {size} GiB").format(size=f"{budget:g}"))
    return lines


class FigureCommands(commands.Cog):
    """The commands of `/admin` that change nothing."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show jobs a day, waiting times and shares."))
    @app_commands.describe(days=mark("Over how many days."))
    async def stats(
        self,
        interaction: discord.Interaction[ImageBot],
        days: app_commands.Range[int, 1, 90] = _DAYS,
    ) -> None:
        """Show figures as a picture, or as text where nothing can draw one."""
        guild_id = await scope(interaction, self.bot)
        await interaction.response.defer(ephemeral=True, thinking=True)
        figures = await self.bot.services.statistics.figures(guild_id, days)
        if not charts.available():
            await interaction.followup.send(_in_words(figures, whole=True), ephemeral=True)
            return
        own = (await self.bot.services.preferences.user(interaction.user.id)).language
        png = await asyncio.to_thread(_picture, figures, own or str(interaction.locale))
        alt = _("Four charts: jobs a day, waiting times, use of the graphics card, shares")
        await interaction.followup.send(
            _in_words(figures, whole=False),
            file=discord.File(io.BytesIO(png), "stats.png", description=alt),
            ephemeral=True,
        )

    @app_commands.command(description=mark("Show how the bot is doing."))
    async def health(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Show the state of the gateway, the queue and the engine, and to some of the machine."""
        bot, services = self.bot, self.bot.services
        guild_id = await scope(interaction, bot)
        whole = await bot.permissions.may_manage_all(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        standing = await services.queue.standing.now()
        jobs = [job for job in standing.order if guild_id is None or job.server == guild_id]
        running = sum(job.state is JobState.RUNNING for job in jobs)
        latency = _("unknown")
        if math.isfinite(bot.latency):
            latency = _("{milliseconds} ms").format(milliseconds=f"{bot.latency * 1000:.0f}")
        lines = [
            _("Version {version}, running since {time}").format(
                version=__version__, time=f"<t:{bot.started_at:.0f}:R>"
            ),
            _("Gateway: {latency}").format(latency=latency),
            _("Queue: {running} running, {waiting} waiting").format(
                running=running, waiting=len(jobs) - running
            ),
            _("Model: {model}, {state}").format(
                model=", ".join(safe(spec.name, 80) for spec in services.models),
                state=_(ENGINE_STATES[services.fleet.state.value]),
            ),
        ]
        if services.queue.control.paused is not None:
            lines.append(pause_line(services.queue.control.paused))
        elif services.queue.control.draining is not None:
            lines.append(drain_line(services.queue.control.draining))
        if whole:
            machine = await look(services.settings.data_dir, services.settings.database_path)
            lines += _machine_lines(bot, machine, await services.statistics.condition())
        await interaction.followup.send(shorten("\n".join(lines), MESSAGE_LENGTH), ephemeral=True)

    @app_commands.command(description=mark("Show what moderators did."))
    @app_commands.describe(
        actor=mark("Only what this person did."), action=mark("Only this, for example pause.")
    )
    async def audit(
        self,
        interaction: discord.Interaction[ImageBot],
        actor: discord.User | None = None,
        action: app_commands.Range[str, 1, ACTION_LIMIT] | None = None,
    ) -> None:
        """Show the newest page, privately."""
        content, view = await audit_page(
            interaction, self.bot, 0, None if actor is None else actor.id, action
        )
        await interaction.response.send_message(content, view=view, ephemeral=True)
