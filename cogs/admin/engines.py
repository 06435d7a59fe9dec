"""`/admin engine`: the engines one by one, and letting one of them rest."""

from __future__ import annotations

from typing import Any, Final

import discord
from discord import app_commands

from bot.client.bot import ImageBot
from bot.fleet.engine_slot import EngineSlot, Standby
from bot.fleet.fleet import Fleet
from bot.jobs.feed import Feed
from bot.messages.card_use import card_lines
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES, MESSAGE_LENGTH
from bot.messages.queue_lines import ENGINE_STATES
from bot.messages.status import progress_status
from bot.messages.text import safe, shorten
from bot.words import _, mark

_NAME_LIMIT: Final = 80
_RESTS: Final = {
    Standby.PAUSED: mark("paused: takes no jobs"),
    Standby.DRAINED: mark("drained: takes no jobs, its card is free"),
}


def _line(slot: EngineSlot, feed: Feed) -> str:
    parts = [_(ENGINE_STATES[slot.engine.state.value])]
    if slot.card:
        parts.insert(0, safe(slot.card, _NAME_LIMIT))
    if slot.standby is not None:
        parts.append(_(_RESTS[slot.standby]))
    if (job := slot.job) is not None:
        latest = feed.latest(job.id)
        parts.append(f"`{job.id}` {progress_status(latest) if latest else ''}".strip())
    if slot.speed is not None:
        parts.append(_("{speed} megapixel steps a second").format(speed=f"{slot.speed:.2g}"))
    name = safe(slot.name, _NAME_LIMIT)
    if slot.node not in {slot.name, "local"}:
        name = _("{engine} on {node}").format(engine=name, node=safe(slot.node, _NAME_LIMIT))
    return f"- **{name}**: {' · '.join(parts)}"


def engine_lines(fleet: Fleet, feed: Feed, *, cards: bool = False) -> list[str]:
    """Return a line for each engine: its card and node, what it does, how fast it is.

    While a model is downloaded or loaded, the line says how far that has got. With `cards` more
    lines say how each loaded engine uses its card.
    """
    lines: list[str] = []
    for slot in fleet.slots.values():
        lines.append(_line(slot, feed))
        if cards and slot.card_use is not None:
            lines += [f"  - {line}" for line in card_lines(slot.card_use)]
    return lines or [_("There is no engine at present; jobs wait until one comes.")]


async def _names(
    interaction: discord.Interaction[ImageBot], current: str
) -> list[app_commands.Choice[str]]:
    bot = interaction.client
    if not await bot.permissions.may_manage_all(interaction):
        return []
    names = bot.services.fleet.slots
    return [
        app_commands.Choice(name=name[:CHOICE_LENGTH], value=name)
        for name in names
        if current.strip().lower() in name.lower() and len(name) <= CHOICE_LENGTH
    ][:CHOICES]


class EngineGroup(app_commands.Group):
    """`/admin engine`."""

    async def _rest(
        self, interaction: discord.Interaction[Any], name: str, rest: Standby | None
    ) -> EngineSlot:
        bot: ImageBot = interaction.client
        await bot.permissions.require_all(interaction)
        fleet = bot.services.fleet
        await fleet.set_standby(name, rest, by=interaction.user.id, guild_id=interaction.guild_id)
        return fleet.slots[name.strip()]

    @app_commands.command(name="list", description=mark("Show what each engine does."))
    async def list_engines(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the engines, privately."""
        await interaction.client.permissions.require_all(interaction)
        services = interaction.client.services
        text = "\n".join(engine_lines(services.fleet, services.queue.feed))
        await interaction.response.send_message(shorten(text, MESSAGE_LENGTH), ephemeral=True)

    @app_commands.command(name="pause", description=mark("Give an engine no more jobs."))
    @app_commands.describe(engine=mark("The engine's name."))
    @app_commands.autocomplete(engine=_names)
    async def pause(
        self,
        interaction: discord.Interaction[ImageBot],
        engine: app_commands.Range[str, 1, CHOICE_LENGTH],
    ) -> None:
        """Let an engine end its job and take no other; its model stays loaded."""
        slot = await self._rest(interaction, engine, Standby.PAUSED)
        sentence = linked(_("⏸️ {engine} takes no more jobs until /admin engine resume."))
        await self._tell(interaction, sentence, slot)

    @app_commands.command(
        name="drain", description=mark("Give an engine no more jobs, and free its card.")
    )
    @app_commands.describe(engine=mark("The engine's name."))
    @app_commands.autocomplete(engine=_names)
    async def drain(
        self,
        interaction: discord.Interaction[ImageBot],
        engine: app_commands.Range[str, 1, CHOICE_LENGTH],
    ) -> None:
        """Let an engine end its job, then unload its model."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        slot = await self._rest(interaction, engine, Standby.DRAINED)
        sentence = linked(
            _("🚰 {engine} takes no more jobs; its card is free until /admin engine resume.")
        )
        if slot.job is not None:
            sentence = _("🚰 {engine} takes no more jobs; its card is freed after this picture.")
        await self._tell(interaction, sentence, slot)

    @app_commands.command(name="resume", description=mark("Give an engine jobs again."))
    @app_commands.describe(engine=mark("The engine's name."))
    @app_commands.autocomplete(engine=_names)
    async def resume(
        self,
        interaction: discord.Interaction[ImageBot],
        engine: app_commands.Range[str, 1, CHOICE_LENGTH],
    ) -> None:
        """End an engine's pause or drain."""
        slot = await self._rest(interaction, engine, None)
        await self._tell(interaction, _("▶️ {engine} takes jobs again."), slot)

    async def _tell(
        self, interaction: discord.Interaction[Any], sentence: str, slot: EngineSlot
    ) -> None:
        text = sentence.format(engine=f"**{safe(slot.name, _NAME_LIMIT)}**")
        if interaction.response.is_done():
            await interaction.followup.send(text, ephemeral=True)
        else:
            await interaction.response.send_message(text, ephemeral=True)
