"""The discord.py client: minimal intents, cogs, command sync, answers to errors."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.client.answers import answer_error, use_language
from bot.client.command_names import CommandTranslator
from bot.client.extensions import load_extensions
from bot.client.gateway import leave_out_unreadable
from bot.client.permissions import Permissions
from bot.client.services import Services
from bot.config.proxy import Proxy
from bot.delivery.breaker import LONGEST_WAIT_S, CircuitBreaker
from storage import facts

log = logging.getLogger(__name__)

# Voice is not used; without this discord.py warns about its missing libraries at each start.
discord.VoiceClient.warn_nacl = False
discord.VoiceClient.warn_dave = False  # pyright: ignore[reportAttributeAccessIssue]


class CommandTree(app_commands.CommandTree["ImageBot"]):
    """Sets the language, and answers every error of a command with a sentence."""

    @override
    async def interaction_check(self, interaction: discord.Interaction[ImageBot], /) -> bool:
        await use_language(interaction)
        return True

    @override
    async def on_error(
        self, interaction: discord.Interaction[ImageBot], error: app_commands.AppCommandError
    ) -> None:
        cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
        await answer_error(interaction, cause)


class ImageBot(commands.Bot):
    """The bot's client. `services` is set by the composition before login."""

    services: Services
    started_at: float
    """When this process built its client, in Unix time."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        *,
        guild_ready_timeout: float = 2.0,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            # Slash commands and buttons need no intent; guilds for names, DMs for prompts there.
            intents=discord.Intents(guilds=True, dm_messages=True),
            allowed_mentions=discord.AllowedMentions.none(),
            tree_cls=CommandTree,
            max_messages=None,
            guild_ready_timeout=guild_ready_timeout,
            proxy=proxy.with_login() if proxy else None,
            http_trace=breaker.trace(self),
            # What discord.py waits for before it asks; it takes no less than 30 s.
            max_ratelimit_timeout=LONGEST_WAIT_S,
        )
        leave_out_unreadable(self)
        self.started_at = time.time()
        self.permissions = Permissions(self, lambda: self.services.settings.owner_ids)

    @override
    async def setup_hook(self) -> None:
        await load_extensions(self)
        await self.tree.set_translator(CommandTranslator())
        await self._sync_if_changed()

    @override
    async def on_message(self, message: discord.Message, /) -> None:
        """Do nothing: there are no prefix commands; a cog listens to direct messages."""

    async def on_ready(self) -> None:
        """Log that the bot is online; cancel what waits for servers that it was removed from."""
        log.info("online as %s; servers: %d", self.user, len(self.guilds))
        queue = self.services.queue
        waiting = {job.server for job in (await queue.standing.now()).order if job.server}
        for guild_id in waiting - {guild.id for guild in self.guilds}:
            await queue.leave_guild(guild_id)

    @override
    def dispatch(self, event_name: str, /, *args: Any, **kwargs: Any) -> None:
        """Begin an event's work unless the bot has ended: discord.py waits with `ready`."""
        if not self.is_closed():
            super().dispatch(event_name, *args, **kwargs)

    @override
    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        """Log what went wrong in an event, unless it was cut off by the end of the bot."""
        if self.is_closed():
            log.debug("%s was not finished: the bot stops", event_method)
            return
        await super().on_error(event_method, *args, **kwargs)

    async def on_resumed(self) -> None:
        """Log that the gateway's session goes on after it was cut."""
        log.info("back at Discord")

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Cancel what waits for a server that the bot was removed from."""
        await self.services.queue.leave_guild(guild.id)

    async def sync_commands(self) -> int:
        """Send the commands to Discord, changed or not; return how many there are."""
        return await self._sync_if_changed(always=True)

    async def _sync_if_changed(self, *, always: bool = False) -> int:
        """Send the commands to Discord when they differ from what was sent last."""
        words = CommandTranslator()
        payload = [
            await command.get_translated_payload(self.tree, words)
            for command in self.tree.get_commands(type=None)
        ]
        payload.sort(key=lambda command: (command.get("type", 1), command["name"]))
        text = json.dumps([self.application_id, payload], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        database = self.services.database
        sent = await database.read(lambda tx: facts.get_fact(tx, "commands"))
        # A sandbox starts without commands, whatever was sent to the one before it.
        elsewhere = self.services.settings.discord_api_url is not None
        same = sent == digest and not always
        if same and not (elsewhere and not await self.tree.fetch_commands()):
            return len(payload)
        await self.tree.sync()
        await database.write(lambda tx: facts.set_fact(tx, "commands", digest))
        log.debug("synced %d commands", len(payload))
        return len(payload)
