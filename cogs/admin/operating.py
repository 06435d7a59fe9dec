"""The commands of `/admin` that keep the bot running: jobs, pauses, the model, what Discord knows.

Pausing stops everyone, so it takes the bot's owner, or an admin of the only server it is in.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import discord
from discord import app_commands
from discord.ext import commands

from bot.client.bot import ImageBot
from bot.client.settings import show_panel
from bot.errors import EngineError
from bot.messages.queue_lines import drain_line, pause_line
from bot.messages.text import safe
from bot.words import _, mark, ngettext
from cogs.admin.queue import cancel_managed, everyones_queue

log = logging.getLogger(__name__)

_PAUSE_REASON: Final = mark("maintenance")


class OperatingCommands(commands.Cog):
    """The commands of `/admin` for jobs, pauses, the model and the defaults."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Show everyone's jobs."))
    async def queue(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the open jobs of this server, or all of them for the owner."""
        content, view = await everyones_queue(interaction, self.bot)
        await interaction.response.send_message(content, view=view, ephemeral=True)

    @app_commands.command(description=mark("Start no more jobs until /admin resume."))
    @app_commands.describe(reason=mark("Shown to everyone who waits."))
    async def pause(
        self,
        interaction: discord.Interaction[ImageBot],
        reason: app_commands.Range[str, 1, 200] = _PAUSE_REASON,
    ) -> None:
        """Pause the queue; the running job ends normally."""
        await self.bot.permissions.require_all(interaction)
        await self.bot.services.queue.control.pause(
            reason, by=interaction.user.id, guild_id=interaction.guild_id
        )
        await interaction.response.send_message(
            _("⏸️ Paused: {reason}. Jobs are still accepted; they wait.").format(
                reason=safe(_(reason), 200)
            ),
            ephemeral=True,
        )

    @app_commands.command(description=mark("Take no new jobs, finish the old ones, then pause."))
    @app_commands.describe(reason=mark("Shown to everyone who asks."))
    async def drain(
        self,
        interaction: discord.Interaction[ImageBot],
        reason: app_commands.Range[str, 1, 200] = _PAUSE_REASON,
    ) -> None:
        """Refuse new requests, end those there are, then pause; until resume."""
        await self.bot.permissions.require_all(interaction)
        queue = self.bot.services.queue
        await queue.control.drain(reason, by=interaction.user.id, guild_id=interaction.guild_id)
        sentence = drain_line(reason)
        if queue.control.paused is not None:
            sentence = pause_line(queue.control.paused)
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(description=mark("Start jobs again."))
    async def resume(self, interaction: discord.Interaction[ImageBot]) -> None:
        """End the pause, and the drain."""
        await self.bot.permissions.require_all(interaction)
        await self.bot.services.queue.control.resume(
            by=interaction.user.id, guild_id=interaction.guild_id
        )
        held = self.bot.services.queue.control.paused
        sentence = _("▶️ The queue is running again.")
        if held:
            sentence = _("⏸️ Still waiting: {reason}.").format(reason=safe(_(held), 200))
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(description=mark("Free the graphics card until the next job."))
    async def unload(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Unload the model, unless it is drawing."""
        await self.bot.permissions.require_all(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        _freed, drawing = await self.bot.services.fleet.unload()
        if not drawing:
            await self.bot.services.audit_log.note(
                "unload", by=interaction.user.id, guild_id=interaction.guild_id
            )
            sentence = _("The model is unloaded; the next job loads it again.")
        else:
            sentence = _("A picture is being drawn; pause the queue or try again afterwards.")
        await interaction.followup.send(sentence, ephemeral=True)

    @app_commands.command(description=mark("Cancel anyone's job."))
    @app_commands.describe(job=mark("The job's id, as /admin queue shows it."))
    async def cancel(
        self, interaction: discord.Interaction[ImageBot], job: app_commands.Range[str, 1, 40]
    ) -> None:
        """Cancel a job of this server, or any job for the owner."""
        job_id = job.strip().strip("`").lower()
        sentence = await cancel_managed(interaction, self.bot, job_id)
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(description=mark("For the owner: load the model anew."))
    async def reload(self, interaction: discord.Interaction[ImageBot]) -> None:
        """End the engine's process and load the model again, unless it is drawing."""
        await self.bot.permissions.require_owner(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        fleet = self.bot.services.fleet
        _freed, drawing = await fleet.unload()
        if drawing:
            sentence = _("A picture is being drawn; pause the queue or try again afterwards.")
            await interaction.followup.send(sentence, ephemeral=True)
            return
        await self.bot.services.audit_log.note(
            "reload", by=interaction.user.id, guild_id=interaction.guild_id
        )
        began = time.monotonic()
        try:
            await fleet.load()
        except EngineError as error:
            log.warning("the model was not loaded anew: %s", error.detail)
            sentence = error.spoken() or _("The model could not be loaded; the log says why.")
        else:
            seconds = f"{time.monotonic() - began:.0f}"
            sentence = _("The model is loaded again, in {seconds} s.").format(seconds=seconds)
        await interaction.followup.send(sentence, ephemeral=True)

    @app_commands.command(description=mark("For the owner: send the commands to Discord anew."))
    async def sync(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Register the commands with Discord, changed or not."""
        await self.bot.permissions.require_owner(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        count = await self.bot.sync_commands()
        await self.bot.services.audit_log.note(
            "sync", by=interaction.user.id, guild_id=interaction.guild_id
        )
        sentence = ngettext("{count} command was sent.", "{count} commands were sent.", count)
        await interaction.followup.send(sentence.format(count=count), ephemeral=True)

    @app_commands.command(description=mark("Choose this server's defaults."))
    @app_commands.guild_only()
    async def defaults(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Show the server's settings, privately."""
        await self.bot.permissions.moderated_server(interaction)
        await show_panel(interaction, self.bot, "guild")
