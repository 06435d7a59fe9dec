"""`/limits`: what one may ask for, and what of that is used."""

from __future__ import annotations

from typing import Final

import discord
from discord import app_commands
from discord.ext import commands

from bot.client.accept import interaction_origin
from bot.client.bot import ImageBot
from bot.messages.status import bar
from bot.rules.limits import DAY_S
from bot.rules.quotas import Charge, Quota, QuotaScope, amount, span
from bot.rules.used import LimitsUsed
from bot.words import _, mark

_WHOSE: Final = {
    QuotaScope.USER: mark("You, in the last 24 hours"),
    QuotaScope.MEMBER: mark("You, by your roles in this server"),
    QuotaScope.DIRECT: mark("You, in direct messages"),
    QuotaScope.SERVER: mark("All members of this server together"),
}


def _quota_line(quota: Quota, used: Charge) -> str:
    """Return the lines of a quota: whose it is, a bar for each bound, when something comes back."""
    lines = [f"**{_(_WHOSE[quota.scope])}**"]
    if (images := quota.bounds.images) is not None:
        count = _("{used} of {limit} pictures").format(
            used=amount(used.images), limit=f"{images:,}"
        )
        lines.append(f"{_bar(used.images, images)} {count}")
    if (seconds := quota.bounds.seconds) is not None:
        time = _("{used} of {limit} of the graphics card").format(
            used=span(used.seconds), limit=span(seconds)
        )
        lines.append(f"{_bar(used.seconds, seconds)} {time}")
    if used.at:
        back = _("Your limit starts to free up {time}.")
        lines.append(f"-# {back.format(time=f'<t:{used.at + DAY_S + 0.5:.0f}:R>')}")
    return "\n".join(lines)


def _bar(used: float, limit: float) -> str:
    # What runs over is full; where nothing is allowed, too.
    return bar(min(used, limit), limit) if limit else bar(1, 1)


def limits_text(standing: LimitsUsed) -> str:
    """Return the lines of `/limits`."""
    lines = [_quota_line(quota, used) for quota, used in standing.quotas]
    lines.append(
        _("Waiting or running: {count} of {limit} jobs").format(
            count=standing.open_jobs, limit=standing.open_limit
        )
    )
    if standing.ready_at is not None:
        lines.append(
            _("The next request is possible {time}.").format(
                time=f"<t:{standing.ready_at + 0.5:.0f}:R>"
            )
        )
    lines.append(
        _(
            "-# Waiting from everyone: {count} of {limit}. What fails or is cancelled comes back."
        ).format(count=standing.waiting, limit=f"{standing.waiting_limit:,}")
    )
    return "\n".join(lines)


class LimitsCog(commands.Cog, name="limits"):
    """A user's own limits."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show what you may still ask for today."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def limits(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Answer with the limits that hold here, privately."""
        found = await self.bot.services.queue.limits_used(interaction_origin(interaction))
        await interaction.response.send_message(limits_text(found), ephemeral=True)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(LimitsCog(bot))
