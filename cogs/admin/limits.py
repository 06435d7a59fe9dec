"""`/admin limit`: what a server's members may ask for, in all and by role."""

from __future__ import annotations

from functools import partial
from typing import Final

import discord
from discord import app_commands

from bot.client.bot import ImageBot
from bot.errors import InvalidRequest
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import shorten
from bot.rules.quotas import span
from bot.rules.server_edits import with_role_limit, with_server_bounds, without_role_limit
from bot.rules.server_limits import WEIGHT_MAX, WEIGHT_MIN, Bounds, RoleLimit
from bot.words import _, mark

_MINUTE_S: Final = 60
_MOST_IMAGES: Final = 1_000_000
_MOST_MINUTES: Final = 1440.0

Images = app_commands.Range[int, 1, _MOST_IMAGES]
Minutes = app_commands.Range[float, 0.1, _MOST_MINUTES]
Weight = app_commands.Range[float, WEIGHT_MIN, WEIGHT_MAX]


def _bounds(images: int | None, minutes: float | None) -> Bounds:
    return Bounds(images, None if minutes is None else minutes * _MINUTE_S)


def _describe(bounds: Bounds, weight: float | None = None) -> str:
    parts: list[str] = []
    if bounds.images is not None:
        parts.append(_("{count} pictures a day").format(count=f"{bounds.images:,}"))
    if bounds.seconds is not None:
        parts.append(_("{time} of the graphics card a day").format(time=span(bounds.seconds)))
    if weight is not None:
        parts.append(_("weight {weight}").format(weight=f"{weight:g}"))
    return " · ".join(parts) or _("no limit of its own")


def _noted(images: int | None, minutes: float | None, weight: float | None = None) -> str:
    """Return what was set, for the audit."""
    given = (("{} pictures", images), ("{:g} min", minutes), ("weight {:g}", weight))
    return ", ".join(text.format(value) for text, value in given if value is not None) or "none"


class LimitGroup(app_commands.Group):
    """`/admin limit`."""

    @app_commands.command(name="role", description=mark("Set what a role's members may ask for."))
    @app_commands.describe(
        role=mark("Which role; @everyone is everyone here."),
        images=mark("Pictures in any 24 hours."),
        minutes=mark("Minutes of the graphics card in any 24 hours."),
        weight=mark("Share of the card within this server; 2 is twice the usual one."),
    )
    async def role(
        self,
        interaction: discord.Interaction[ImageBot],
        role: discord.Role,
        images: Images | None = None,
        minutes: Minutes | None = None,
        weight: Weight | None = None,
    ) -> None:
        """Replace a role's limit. What the bot's owner sets may exceed every user's limit."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        if images is None and minutes is None and weight is None:
            raise InvalidRequest(_("Say at least one of pictures, minutes and weight."))
        granted = await bot.permissions.is_bot_owner(interaction.user)
        limit = RoleLimit(_bounds(images, minutes), weight, granted)
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(with_role_limit, role_id=role.id, limit=limit),
            by=interaction.user.id,
            detail=f"limit of role {role.id}: {_noted(images, minutes, weight)}",
        )
        sentence = _("{role}: {limit}").format(
            role=role.mention, limit=_describe(limit.bounds, weight)
        )
        if not granted:
            more = _("Only the bot's owner can set a limit above what every user may have.")
            sentence = f"{sentence}\n-# {more}"
        await interaction.response.send_message(shorten(sentence, MESSAGE_LENGTH), ephemeral=True)

    @app_commands.command(name="clear", description=mark("Forget a role's limit."))
    @app_commands.describe(role=mark("Which role."))
    async def clear(self, interaction: discord.Interaction[ImageBot], role: discord.Role) -> None:
        """Remove what was set for a role."""
        bot = interaction.client
        await bot.services.preferences.edit_guild(
            await bot.permissions.moderated_server(interaction),
            partial(without_role_limit, role_id=role.id),
            by=interaction.user.id,
            detail=f"no limit of role {role.id}",
        )
        sentence = _("{role} no longer has a limit of its own.").format(role=role.mention)
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(
        name="server", description=mark("Set what all members together may ask for.")
    )
    @app_commands.describe(
        images=mark("Pictures in any 24 hours; no limit if left out."),
        minutes=mark("Minutes of the graphics card in any 24 hours; no limit if left out."),
    )
    async def server(
        self,
        interaction: discord.Interaction[ImageBot],
        images: Images | None = None,
        minutes: Minutes | None = None,
    ) -> None:
        """Replace the server's limit."""
        bot = interaction.client
        bounds = _bounds(images, minutes)
        await bot.services.preferences.edit_guild(
            await bot.permissions.moderated_server(interaction),
            partial(with_server_bounds, bounds=bounds),
            by=interaction.user.id,
            detail=f"limit of the server: {_noted(images, minutes)}",
        )
        sentence = _("All members together: {limit}").format(limit=_describe(bounds))
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(name="list", description=mark("Show this server's limits."))
    async def show(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List what is set for the server and for roles."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        found = await bot.services.preferences.limits(guild_id)
        lines = [_("All members together: {limit}").format(limit=_describe(found.server))]
        lines += [
            _("{role}: {limit}").format(
                # The role of everyone has the server's id, and Discord shows no name for it.
                role="@everyone" if role_id == guild_id else f"<@&{role_id}>",
                limit=_describe(one.bounds, one.weight),
            )
            for role_id, one in found.roles.items()
        ]
        await interaction.response.send_message(
            shorten("\n".join(lines), MESSAGE_LENGTH), ephemeral=True
        )
