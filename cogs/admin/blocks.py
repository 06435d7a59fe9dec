"""The groups of `/admin`: blocks, prompt rules, channels."""

from __future__ import annotations

from functools import partial
from typing import Any

import discord
from discord import app_commands
from typing_extensions import override

from bot.client.bot import ImageBot
from bot.client.places import category_of, parent_of
from bot.errors import InvalidRequest, NotAllowed
from bot.jobs.blocking import EVERYWHERE
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import safe, shorten
from bot.rules import server_edits
from bot.rules.prompt_rules import RULE_LIMIT, checked_rule
from bot.words import _, mark, ngettext

_HOUR_S = 3600


class ChannelOfAnyKind(app_commands.Transformer[ImageBot]):
    """Whatever takes a command, and what such channels stand in.

    Named one by one, Discord would not take media channels. Its own partial objects are taken,
    since the bot need not see a channel to close it.
    """

    @property
    @override
    def type(self) -> discord.AppCommandOptionType:
        return discord.AppCommandOptionType.channel

    @override
    async def transform(
        self, interaction: discord.Interaction[ImageBot], value: Any, /
    ) -> app_commands.AppCommandChannel | app_commands.AppCommandThread:
        return value


Place = app_commands.Transform[
    app_commands.AppCommandChannel | app_commands.AppCommandThread, ChannelOfAnyKind
]


async def _scope(interaction: discord.Interaction[Any], *, everywhere: bool) -> int:
    """Return where a block holds; everywhere is for the bot's owner alone."""
    if not everywhere:
        return await interaction.client.permissions.moderated_server(interaction)
    if not await interaction.client.permissions.is_bot_owner(interaction.user):
        raise NotAllowed(_("Only the bot's owner may do this."))
    return EVERYWHERE


async def _tell(interaction: discord.Interaction[Any], text: str) -> None:
    await interaction.response.send_message(shorten(text, MESSAGE_LENGTH), ephemeral=True)


def _until(at: float) -> str:
    return _("until {time}").format(time=f"<t:{at:.0f}:f>")


class BlockGroup(app_commands.Group):
    """`/admin block`."""

    @app_commands.command(name="add", description=mark("Keep someone from using the bot."))
    @app_commands.describe(
        user=mark("Which user."),
        hours=mark("For how many hours; for good if left out."),
        reason=mark("Shown to them."),
        everywhere=mark("In every server; for the bot's owner."),
    )
    async def add(
        self,
        interaction: discord.Interaction[ImageBot],
        user: discord.User,
        hours: app_commands.Range[float, 0.01, 87600.0] | None = None,
        reason: app_commands.Range[str, 1, 200] | None = None,
        everywhere: bool = False,
    ) -> None:
        """Block a user; what they have waiting is dropped."""
        scope = await _scope(interaction, everywhere=everywhere)
        bot = interaction.client
        if await bot.permissions.is_bot_owner(user):
            raise InvalidRequest(_("The bot's owner cannot be blocked."))
        dropped = await bot.services.blocks.block(
            user.id,
            scope,
            by=interaction.user.id,
            seconds=None if hours is None else hours * _HOUR_S,
            reason=reason or "",
        )
        text = _("{user} is blocked.").format(user=f"<@{user.id}>")
        if hours is not None:
            until = f"<t:{interaction.created_at.timestamp() + hours * _HOUR_S:.0f}:f>"
            text = _("{user} is blocked until {time}.").format(user=f"<@{user.id}>", time=until)
        if dropped:
            more = ngettext(
                "{count} waiting job was dropped.", "{count} waiting jobs were dropped.", dropped
            )
            text = f"{text} {more.format(count=dropped)}"
        await _tell(interaction, text)

    @app_commands.command(name="remove", description=mark("Let someone use the bot again."))
    @app_commands.describe(
        user=mark("Which user."), everywhere=mark("In every server; for the bot's owner.")
    )
    async def remove(
        self,
        interaction: discord.Interaction[ImageBot],
        user: discord.User,
        everywhere: bool = False,
    ) -> None:
        """End a block."""
        scope = await _scope(interaction, everywhere=everywhere)
        blocks = interaction.client.services.blocks
        if not await blocks.unblock(user.id, scope, by=interaction.user.id):
            raise InvalidRequest(_("They are not blocked."))
        await _tell(interaction, _("{user} is unblocked.").format(user=f"<@{user.id}>"))

    @app_commands.command(name="list", description=mark("Show who is blocked."))
    async def show(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the blocks of this server."""
        bot = interaction.client
        found = await bot.services.blocks.listed(
            await bot.permissions.moderated_server(interaction)
        )
        lines = [
            f"<@{block.user_id}>"
            + (f" · {_until(block.until)}" if block.until is not None else "")
            + (f" · {safe(block.reason, 80)}" if block.reason else "")
            for block in found
        ]
        await _tell(interaction, "\n".join(lines) or _("Nobody is blocked here."))


class RuleGroup(app_commands.Group):
    """`/admin rule`."""

    @app_commands.command(name="add", description=mark("Refuse prompts that say this."))
    @app_commands.describe(
        rule=mark(
            "Words, or a /regular expression/; negative: before it is about the negative prompt."
        )
    )
    async def add(
        self,
        interaction: discord.Interaction[ImageBot],
        rule: app_commands.Range[str, 1, RULE_LIMIT],
    ) -> None:
        """Add a rule."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        edit = partial(server_edits.with_rule, rule=checked_rule(rule))
        preferences = interaction.client.services.preferences
        await preferences.edit_guild(
            guild_id, edit, by=interaction.user.id, detail=f"rule added: {rule.strip()}"
        )
        sentence = _("The rule {rule} holds from now on.")
        await _tell(interaction, sentence.format(rule=safe(rule.strip(), RULE_LIMIT)))

    @app_commands.command(name="remove", description=mark("Remove a rule."))
    @app_commands.describe(rule=mark("The rule, as the list shows it."))
    async def remove(
        self,
        interaction: discord.Interaction[ImageBot],
        rule: app_commands.Range[str, 1, RULE_LIMIT],
    ) -> None:
        """Remove a rule."""
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        edit = partial(server_edits.without_rule, rule=rule.strip())
        preferences = interaction.client.services.preferences
        await preferences.edit_guild(
            guild_id, edit, by=interaction.user.id, detail=f"rule removed: {rule.strip()}"
        )
        sentence = _("The rule {rule} no longer holds.")
        await _tell(interaction, sentence.format(rule=safe(rule.strip(), RULE_LIMIT)))

    @app_commands.command(name="list", description=mark("Show this server's rules."))
    async def show(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the rules."""
        rules = await interaction.client.services.preferences.rules(
            await interaction.client.permissions.moderated_server(interaction)
        )
        await _tell(
            interaction,
            "\n".join(safe(rule, RULE_LIMIT) for rule in rules) or _("There are no rules."),
        )


class ChannelGroup(app_commands.Group):
    """`/admin channel`: where the bot draws."""

    async def _set(
        self, interaction: discord.Interaction[ImageBot], where: Place, *, on: bool
    ) -> None:
        guild_id = await interaction.client.permissions.moderated_server(interaction)
        preferences = interaction.client.services.preferences
        edit = partial(server_edits.with_channel, channel_id=where.id, on=on)
        if where.type is discord.ChannelType.category:
            within = _channels_in(interaction.client, guild_id, where.id)
            edit = partial(
                server_edits.with_category, category_id=where.id, channel_ids=within, on=on
            )
        noted = f"channel {where.id}: {'open' if on else 'closed'}"
        await preferences.edit_guild(guild_id, edit, by=interaction.user.id, detail=noted)
        names = {"channel": f"<#{where.id}>"}
        sentence = _("The bot draws in {channel}.")
        if not on:
            sentence = _("The bot no longer draws in {channel}.")
        elif outer := await self._still_closed(interaction.client, guild_id, where.id):
            names["outer"] = f"<#{outer}>"
            sentence = _("{channel} itself is open, but {outer} around it is closed.")
        await _tell(interaction, sentence.format(**names))

    async def _still_closed(self, bot: ImageBot, guild_id: int, channel_id: int) -> int | None:
        """Return what a channel stands in, where that is closed."""
        channel = bot.get_channel(channel_id)
        around = {parent_of(channel), category_of(channel)}
        closed = await bot.services.preferences.closed_places(guild_id)
        return next(iter(around & closed), None)

    @app_commands.command(name="deny", description=mark("Draw nothing in a channel."))
    @app_commands.describe(
        where=mark("Which channel; a forum's posts and a category's channels too.")
    )
    async def deny(self, interaction: discord.Interaction[ImageBot], where: Place) -> None:
        """Refuse requests from a channel and its threads, or from all channels of a category."""
        await self._set(interaction, where, on=False)

    @app_commands.command(name="allow", description=mark("Draw in a channel again."))
    @app_commands.describe(where=mark("Which channel."))
    async def allow(self, interaction: discord.Interaction[ImageBot], where: Place) -> None:
        """Take requests from a channel again."""
        await self._set(interaction, where, on=True)


def _channels_in(bot: ImageBot, guild_id: int, category_id: int) -> list[int]:
    guild = bot.get_guild(guild_id)
    channels = guild.channels if guild is not None else ()
    return [channel.id for channel in channels if category_of(channel) == category_id]
