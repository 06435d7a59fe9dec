"""The discord.py client: minimal intents, cogs, command sync, answers to errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
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
from bot.delivery.errors import FORESEEN, explain
from bot.machine.precedence import Precedence
from bot.messages.command_mentions import learn
from storage import facts

log = logging.getLogger(__name__)

# The start does not wait long for what only makes sentences clickable.
_FETCH_LIMIT_S: Final = 10.0
_FIRST_RESPONSE: Final = re.compile(r"/interactions/(?P<id>\d+)/[^/]+/callback")
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
    first: Precedence
    """The interactions that have no response yet, to which what else the process does gives way."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        *,
        guild_ready_timeout: float = 2.0,
        proxy: Proxy | None = None,
    ) -> None:
        self.first = Precedence()
        self._loaded: set[str] = set()
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            # Slash commands and buttons need no intent; guilds for names, messages for prompts in
            # DMs and for replies that mention the bot. What else is said in servers comes without
            # its content: the intent for that is privileged, and not asked for.
            intents=discord.Intents(guilds=True, dm_messages=True, guild_messages=True),
            allowed_mentions=discord.AllowedMentions.none(),
            tree_cls=CommandTree,
            max_messages=None,
            guild_ready_timeout=guild_ready_timeout,
            proxy=proxy.with_login() if proxy else None,
            http_trace=self._traced(breaker),
            # What discord.py waits for before it asks; it takes no less than 30 s.
            max_ratelimit_timeout=LONGEST_WAIT_S,
        )
        leave_out_unreadable(self)
        self.started_at = time.time()
        self.permissions = Permissions(self, lambda: self.services.settings.owner_ids)

    @override
    async def setup_hook(self) -> None:
        await load_extensions(self, self._loaded)
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
        if self.is_closed():
            return
        if event_name == "interaction":
            self.first.begin(args[0].id)
        super().dispatch(event_name, *args, **kwargs)

    def _traced(self, breaker: CircuitBreaker) -> aiohttp.TraceConfig:
        """Return the trace of requests: `breaker`'s, and when an interaction has its response."""
        trace = breaker.trace(self)

        async def answered(_: Any, __: Any, params: aiohttp.TraceRequestEndParams) -> None:
            if match := _FIRST_RESPONSE.search(params.url.path):
                self.first.end(int(match["id"]))

        trace.on_request_end.append(answered)
        return trace

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

    async def commands_payload(self) -> list[dict[str, Any]]:
        """Return the commands as Discord takes them, with their names in every language."""
        words = CommandTranslator()
        payload = [
            await command.get_translated_payload(self.tree, words)
            for command in self.tree.get_commands(type=None)
        ]
        payload.sort(key=lambda command: (command.get("type", 1), command["name"]))
        return payload

    async def _sync_if_changed(self, *, always: bool = False) -> int:
        """Send the commands to Discord when they differ from what was sent last."""
        payload = await self.commands_payload()
        text = json.dumps([self.application_id, payload], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        database = self.services.database
        sent = await database.read(lambda tx: facts.get_fact(tx, "commands"))
        if sent == digest and not always:
            known = await self._registered()
            # A sandbox starts without commands, whatever was sent to the one before it.
            if known != []:
                self._learn(known or [])
                return len(payload)
        # Not by the tree, which would translate all of them once more.
        stored = await self.http.bulk_upsert_global_commands(self.application_id or 0, payload)
        self._learn([app_commands.AppCommand(data=one, state=self._connection) for one in stored])
        await database.write(lambda tx: facts.set_fact(tx, "commands", digest))
        log.debug("synced %d commands", len(payload))
        return len(payload)

    async def _registered(self) -> list[app_commands.AppCommand] | None:
        """Return the commands as Discord has them; None where they cannot be had now."""
        try:
            async with asyncio.timeout(_FETCH_LIMIT_S):
                return await self.tree.fetch_commands()
        except FORESEEN as error:
            log.info("the commands' ids are not known: %s", explain(error))
            return None

    def _learn(self, known: Iterable[app_commands.AppCommand]) -> None:
        """Note the commands' ids, so that sentences can have them clickable."""
        ids = {one.name: one.id for one in known if one.type is discord.AppCommandType.chat_input}
        names = [
            one.qualified_name
            for one in self.tree.walk_commands(type=discord.AppCommandType.chat_input)
            if isinstance(one, app_commands.Command)
        ]
        roots = {name: name.partition(" ")[0] for name in names}
        learn({name: ids[root] for name, root in roots.items() if root in ids})
