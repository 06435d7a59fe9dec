"""Discord's REST routes about the application, users, guilds, channels and commands."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from bot.sandbox.dispatch import bot_guilds
from bot.sandbox.errors import (
    Form,
    Json,
    missing_access,
    no_direct_messages,
    unknown_channel,
    unknown_guild,
    unknown_user,
)
from bot.sandbox.events import StateChanged, Typing
from bot.sandbox.gate import API, BODY, reply
from bot.sandbox.model import Channel
from bot.sandbox.payloads import (
    channel_json,
    guild_json,
    member_json,
    own_user_json,
    role_json,
    user_json,
)
from bot.sandbox.permissions import can_see
from bot.sandbox.world import World


def number(request: web.Request, name: str) -> int:
    """Return the id in the path called `name`; raise error 50035 if it is none."""
    text = request.match_info[name]
    if not text.isdecimal():
        form = Form()
        message = f'Value "{text}" is not snowflake.'
        form.add(name, code="NUMBER_TYPE_COERCE", message=message)
        form.check()
    return int(text)


def bot_channel(world: World, request: web.Request) -> Channel:
    """Return the channel in the path; raise 10003 or, where the bot sees nothing, 50001."""
    channel = world.channels.get(number(request, "channel_id"))
    if channel is None:
        raise unknown_channel()
    if not can_see(world.bot, channel):
        raise missing_access()
    return channel


class Rest:
    """Handlers over one world."""

    def __init__(self, world: World, gateway_url: str) -> None:
        self._world = world
        self._gateway_url = gateway_url

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        get, post = app.router.add_get, app.router.add_post
        get(f"{API}/gateway", self.gateway)
        get(f"{API}/gateway/bot", self.gateway)
        get(f"{API}/users/@me", self.me)
        get(f"{API}/users/@me/guilds", self.my_guilds)
        post(f"{API}/users/@me/channels", self.open_dm)
        get(f"{API}/users/{{user_id}}", self.user)
        get(f"{API}/oauth2/applications/@me", self.application)
        get(f"{API}/applications/@me", self.application)
        get(f"{API}/guilds/{{guild_id}}", self.guild)
        get(f"{API}/guilds/{{guild_id}}/channels", self.guild_channels)
        get(f"{API}/guilds/{{guild_id}}/roles", self.guild_roles)
        get(f"{API}/guilds/{{guild_id}}/members", self.members)
        get(f"{API}/guilds/{{guild_id}}/members/{{user_id}}", self.member)
        get(f"{API}/channels/{{channel_id}}", self.channel)
        post(f"{API}/channels/{{channel_id}}/typing", self.typing)
        for scope in ("", "/guilds/{guild_id}"):
            base = f"{API}/applications/{{application_id}}{scope}/commands"
            get(base, self.commands)
            app.router.add_put(base, self.replace_commands)
            post(base, self.add_command)
            get(f"{base}/{{command_id}}", self.command)
            app.router.add_patch(f"{base}/{{command_id}}", self.edit_command)
            app.router.add_delete(f"{base}/{{command_id}}", self.delete_command)

    async def gateway(self, request: web.Request) -> web.Response:
        """Say where the gateway is."""
        if not request.path.endswith("/bot"):
            return reply({"url": self._gateway_url})
        limit = {"total": 1000, "remaining": 999, "reset_after": 14400000, "max_concurrency": 1}
        return reply({"url": self._gateway_url, "shards": 1, "session_start_limit": limit})

    async def me(self, _: web.Request) -> web.Response:
        """Return the bot's own user."""
        return reply(own_user_json(self._world.bot))

    async def my_guilds(self, _: web.Request) -> web.Response:
        """Return the guilds that the bot is in."""
        guild = self._world.guild
        if not bot_guilds(self._world):
            return reply([])
        flags: Json = {"icon": None, "banner": None, "owner": False, "features": []}
        bot_role = guild.roles[guild.members[self._world.bot.id].roles[0]]
        held = str(int(bot_role.permissions))
        return reply([{"id": str(guild.id), "name": guild.name, "permissions": held} | flags])

    async def user(self, request: web.Request) -> web.Response:
        """Return any user."""
        return reply(user_json(self._world.user(number(request, "user_id"))))

    async def application(self, _: web.Request) -> web.Response:
        """Return the bot's application."""
        world = self._world
        owner = world.users[world.guild.owner_id]
        empty = "icon type interactions_endpoint_url role_connections_verification_url team"
        body: Json = dict.fromkeys(empty.split())
        return reply(
            body
            | {
                "id": str(world.application_id),
                "name": world.bot.name,
                "description": "",
                "summary": "",
                "bot_public": True,
                "bot_require_code_grant": False,
                "verify_key": "0" * 64,
                "flags": 0,
                "flags_new": "0",
                "owner": user_json(owner),
                "bot": user_json(world.bot),
                "redirect_uris": [],
                "approximate_guild_count": 1,
                "approximate_user_install_count": 0,
                "approximate_user_authorization_count": 0,
                "explicit_content_filter": 0,
                "eligible_oauth2_scopes": [],
                "integration_types_config": {"0": {}, "1": {}},
            }
        )

    async def open_dm(self, request: web.Request) -> web.Response:
        """Return the direct messages with a user."""
        user = self._world.user(str(request[BODY].fields.get("recipient_id", "")))
        if user.bot:
            raise no_direct_messages()
        return reply(channel_json(self._world.dm(user)))

    async def guild(self, request: web.Request) -> web.Response:
        """Return the guild."""
        self._check_guild(request)
        return reply(guild_json(self._world.guild))

    async def guild_channels(self, request: web.Request) -> web.Response:
        """Return the guild's channels."""
        self._check_guild(request)
        guild = self._world.guild
        places = [c for c in self._world.channels.values() if c.guild is guild and not c.thread_of]
        return reply([channel_json(channel) for channel in places])

    async def guild_roles(self, request: web.Request) -> web.Response:
        """Return the guild's roles."""
        self._check_guild(request)
        return reply([role_json(role) for role in self._world.guild.roles.values()])

    async def members(self, request: web.Request) -> web.Response:
        """Return the guild's members."""
        self._check_guild(request)
        return reply([member_json(member) for member in self._world.guild.members.values()])

    async def member(self, request: web.Request) -> web.Response:
        """Return one member."""
        self._check_guild(request)
        member = self._world.guild.members.get(number(request, "user_id"))
        if member is None:
            raise unknown_user()
        return reply(member_json(member))

    async def channel(self, request: web.Request) -> web.Response:
        """Return a channel."""
        return reply(channel_json(bot_channel(self._world, request)))

    async def typing(self, request: web.Request) -> web.Response:
        """Show that the bot types."""
        channel = bot_channel(self._world, request)
        self._world.events.emit(Typing(channel, self._world.bot))
        return reply(None, 204)

    async def commands(self, request: web.Request) -> web.Response:
        """Return the commands of a scope."""
        return reply(self._world.commands.list(self._scope(request)))

    async def replace_commands(self, request: web.Request) -> web.Response:
        """Replace the commands of a scope."""
        bodies: Any = request[BODY].json
        fresh = self._world.commands.replace(self._scope(request), list(bodies or []))
        self._world.events.emit(StateChanged())
        return reply(fresh)

    async def add_command(self, request: web.Request) -> web.Response:
        """Add a command, or replace that of the same name."""
        scope = self._scope(request)
        command, new = self._world.commands.upsert(scope, request[BODY].fields)
        self._world.events.emit(StateChanged())
        return reply(command, 201 if new else 200)

    async def command(self, request: web.Request) -> web.Response:
        """Return one command."""
        number_ = number(request, "command_id")
        return reply(self._world.commands.get(self._scope(request), number_))

    async def edit_command(self, request: web.Request) -> web.Response:
        """Change one command."""
        scope, key = self._scope(request), number(request, "command_id")
        command = self._world.commands.edit(scope, key, request[BODY].fields)
        self._world.events.emit(StateChanged())
        return reply(command)

    async def delete_command(self, request: web.Request) -> web.Response:
        """Delete one command."""
        self._world.commands.delete(self._scope(request), number(request, "command_id"))
        self._world.events.emit(StateChanged())
        return reply(None, 204)

    def _scope(self, request: web.Request) -> int | None:
        if number(request, "application_id") != self._world.application_id:
            raise missing_access()
        if "guild_id" not in request.match_info:
            return None
        self._check_guild(request)
        return self._world.guild.id

    def _check_guild(self, request: web.Request) -> None:
        if number(request, "guild_id") != self._world.guild.id:
            raise unknown_guild()
