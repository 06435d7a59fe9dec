"""`/admin`: the queue in the hands of those who run the server.

`default_permissions` only hides the commands, and a server can change it, so every command checks
again. Pausing stops everyone, so it takes the bot's owner, or an admin of the only server it is in.
"""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.client import ImageBot
from bot.delivery.text import safe, shorten
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.ids import is_job_id
from bot.jobs.model import Job
from cogs.buttons import CANCEL_SENTENCES
from cogs.queue import cancel_buttons, describe_all, pause_line


@app_commands.default_permissions(manage_guild=True)
@app_commands.allowed_installs(guilds=True, users=False)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
class Admin(commands.GroupCog, group_name="admin", group_description="Look after the queue."):
    """Commands for server admins and the bot's owner."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    async def _require_moderator(self, interaction: discord.Interaction[ImageBot]) -> None:
        if not await self.bot.is_moderator(interaction):
            raise NotAllowed("Only people with the Manage Server permission may do this.")

    async def _require_all(self, interaction: discord.Interaction[ImageBot]) -> None:
        await self._require_moderator(interaction)
        if len(self.bot.guilds) > 1 and not await self.bot.is_bot_owner(interaction.user):
            raise NotAllowed(
                "The bot serves several servers: only its owner may pause or resume the queue."
            )

    async def _visible(self, interaction: discord.Interaction[ImageBot]) -> list[Job]:
        """Return the open jobs that the user may manage."""
        jobs = await self.bot.services.queue.open_jobs()
        if await self.bot.is_bot_owner(interaction.user):
            return jobs
        return [job for job in jobs if job.guild_id == interaction.guild_id]

    @app_commands.command(description="Show everyone's jobs.")
    async def queue(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the open jobs of this server, or all of them for the owner."""
        await self._require_moderator(interaction)
        jobs = await self._visible(interaction)
        paused = self.bot.services.queue.paused
        head = f"{pause_line(paused)}\n" if paused is not None else ""
        body = (
            await describe_all(self.bot.services.queue, jobs, interaction.user.id)
            or "The queue is empty."
        )
        await interaction.response.send_message(
            shorten(head + body, 2000), view=cancel_buttons(jobs), ephemeral=True
        )

    @app_commands.command(description="Start no more jobs until /admin resume.")
    @app_commands.describe(reason="Shown to everyone who waits.")
    async def pause(
        self,
        interaction: discord.Interaction[ImageBot],
        reason: app_commands.Range[str, 1, 200] = "maintenance",
    ) -> None:
        """Pause the queue; the running job ends normally."""
        await self._require_all(interaction)
        await self.bot.services.queue.pause(
            reason, by=interaction.user.id, guild_id=interaction.guild_id
        )
        await interaction.response.send_message(
            f"⏸️ Paused: {safe(reason, 200)}. Jobs are still accepted; they wait.", ephemeral=True
        )

    @app_commands.command(description="Start jobs again.")
    async def resume(self, interaction: discord.Interaction[ImageBot]) -> None:
        """End the pause."""
        await self._require_all(interaction)
        await self.bot.services.queue.resume(by=interaction.user.id, guild_id=interaction.guild_id)
        held = self.bot.services.queue.paused
        sentence = f"⏸️ Still waiting: {safe(held, 200)}." if held else "▶️ The queue goes on."
        await interaction.response.send_message(sentence, ephemeral=True)

    @app_commands.command(description="Free the graphics card until the next job.")
    async def unload(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Unload the model, unless it is drawing."""
        await self._require_all(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        if await self.bot.services.engine.unload():
            await self.bot.services.queue.note(
                "unload", by=interaction.user.id, guild_id=interaction.guild_id
            )
            sentence = "The model is unloaded; the next job loads it again."
        else:
            sentence = "A picture is being drawn; pause the queue or try again afterwards."
        await interaction.followup.send(sentence, ephemeral=True)

    @app_commands.command(description="Cancel anyone's job.")
    @app_commands.describe(job="The job's id, as /admin queue shows it.")
    async def cancel(
        self, interaction: discord.Interaction[ImageBot], job: app_commands.Range[str, 1, 40]
    ) -> None:
        """Cancel a job of this server, or any job for the owner."""
        await self._require_moderator(interaction)
        job_id = job.strip().strip("`").lower()
        found = await self.bot.services.queue.job(job_id) if is_job_id(job_id) else None
        if found is None or not await self.bot.may_manage(interaction, found):
            raise JobNotFound("There is no such job on this server.")
        outcome = await self.bot.services.queue.cancel(
            job_id, by=interaction.user.id, moderator=True
        )
        await interaction.response.send_message(CANCEL_SENTENCES[outcome], ephemeral=True)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Admin(bot))
