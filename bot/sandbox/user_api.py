"""The page's side over HTTP: what a user sees and does, as JSON, on loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, cast

from aiohttp import WSMsgType, web

from bot.sandbox import actions, forms, view
from bot.sandbox.errors import Json, Refusal, entries
from bot.sandbox.events import Event
from bot.sandbox.gate import reply
from bot.sandbox.model import Channel, User
from bot.sandbox.payloads import FORWARD
from bot.sandbox.people import Invocation, NoResponse
from bot.sandbox.permissions import can_see
from bot.sandbox.uploads import Body, Upload, read_body
from bot.sandbox.world import World


class UserApi:
    """Handlers over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sockets: dict[web.WebSocketResponse, tuple[User, asyncio.Queue[Json]]] = {}
        world.events.listen(self._on_event)

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get("/user/state", self.state)
        app.router.add_get("/user/{uid}/events", self.events)
        place = "/user/{uid}/channels/{cid}"
        app.router.add_get(f"{place}/messages", self.messages)
        app.router.add_post(f"{place}/messages", self.send)
        app.router.add_post(f"{place}/commands", self.command)
        app.router.add_post(f"{place}/autocomplete", self.autocomplete)
        app.router.add_post("/user/{uid}/messages/{mid}/components", self.component)
        app.router.add_post("/user/{uid}/modals/{iid}", self.modal)

    async def close(self) -> None:
        """Close every page's websocket."""
        for socket in list(self._sockets):
            await socket.close(code=1001)

    async def state(self, _: web.Request) -> web.Response:
        """Return users, channels, direct messages and commands."""
        return reply(view.state(self._world))

    async def messages(self, request: web.Request) -> web.Response:
        """Return the newest messages that the user sees, oldest first."""
        user, channel = self._user(request), self._channel(request)
        limit = max(1, min(200, _whole(request.query.get("limit", "50"))))
        seen = [m for m in channel.messages.values() if self._world.sees(user, m)]
        return reply([view.message(message) for message in seen[-limit:]])

    async def send(self, request: web.Request) -> web.Response:
        """Post a message of the user."""
        user, channel, body = self._user(request), self._channel(request), await _body(request)
        text = str(body.fields.get("content") or "")
        source: Json = body.fields.get("message_reference") or {}
        source_id = _whole(source.get("message_id")) if source else None
        if source_id is not None and source.get("type") == FORWARD:
            origin = self._world.find_message(user, source_id)
            message = actions.forward(self._world, user, origin, channel)
        else:
            message = actions.write(
                self._world, user, channel, text, body.uploads, reply_to=source_id
            )
        return reply(view.message(message))

    async def command(self, request: web.Request) -> web.Response:
        """Run a command; a file option is the n of `files[n]` in a multipart body."""
        user, channel, body = self._user(request), self._channel(request), await _body(request)
        fields = body.fields
        name, target = str(fields.get("name") or ""), fields.get("target_id")
        interaction = actions.run_command(
            self._world,
            user,
            channel,
            name,
            self._options(fields, name, channel, body.uploads),
            target_id=None if target is None else _whole(target),
        )
        return reply({"interaction_id": str(interaction.id)})

    async def autocomplete(self, request: web.Request) -> web.Response:
        """Return the bot's choices for a half-typed option; none if it does not answer."""
        user, channel, body = self._user(request), self._channel(request), await _body(request)
        fields = body.fields
        interaction = actions.complete(
            self._world,
            user,
            channel,
            str(fields.get("name") or ""),
            cast("Json", fields.get("options") or {}),
            str(fields.get("focused") or ""),
        )
        with contextlib.suppress(NoResponse, TimeoutError):
            await Invocation(self._world, interaction).response()
        return reply({"choices": interaction.choices or []})

    async def component(self, request: web.Request) -> web.Response:
        """Press a button or choose in a menu."""
        user, fields = self._user(request), (await _body(request)).fields
        message = self._world.find_message(user, _number(request, "mid"))
        values = [str(value) for value in entries(fields, "values")]
        name = str(fields.get("custom_id") or "")
        interaction = actions.use_control(self._world, user, message, name, values)
        return reply({"interaction_id": str(interaction.id)})

    async def modal(self, request: web.Request) -> web.Response:
        """Submit a form; files are the numbers n of `files[n]` in a multipart body."""
        user, body = self._user(request), await _body(request)
        source = self._world.interactions.get(_number(request, "iid"))
        if source is None or source.modal is None:
            raise Refusal(404, "There is no such form.")
        values = dict(cast("Json", body.fields.get("components") or {}))
        files = {upload.index: (upload.filename, upload.data) for upload in body.uploads}
        for name in forms.file_fields(source.modal):
            places = [_whole(place) for place in entries(values, name)]
            values[name] = [files[place] for place in places if place in files]
        interaction = actions.submit_form(self._world, user, source, values)
        return reply({"interaction_id": str(interaction.id)})

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        """Stream what the user sees happening."""
        user = self._user(request)
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self._sockets[socket] = (user, queue)
        writer = asyncio.create_task(_write(socket, queue))
        try:
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            writer.cancel()
            del self._sockets[socket]
        return socket

    def _on_event(self, event: Event) -> None:
        for user, queue in self._sockets.values():
            for body in view.event(self._world, user, event):
                queue.put_nowait(body)

    def _user(self, request: web.Request) -> User:
        user = self._world.users.get(_number(request, "uid"))
        if user is None or user.bot:
            raise Refusal(404, "There is no such user.")
        return user

    def _channel(self, request: web.Request) -> Channel:
        channel = self._world.channels.get(_number(request, "cid"))
        if channel is None or not can_see(self._user(request), channel):
            raise Refusal(404, "There is no such channel.")
        return channel

    def _options(
        self, fields: Json, name: str, channel: Channel, uploads: list[Upload]
    ) -> dict[str, Any]:
        values = dict(cast("Json", fields.get("options") or {}))
        files = {upload.index: (upload.filename, upload.data) for upload in uploads}
        for option in actions.file_options(self._world, channel, name):
            if option in values:
                values[option] = files.get(_whole(values[option]))
        return values


async def _write(socket: web.WebSocketResponse, queue: asyncio.Queue[Json]) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await socket.send_str(json.dumps(await queue.get()))


async def _body(request: web.Request) -> Body:
    return await read_body(request)


def _number(request: web.Request, name: str) -> int:
    return _whole(request.match_info[name])


def _whole(value: object) -> int:
    if not str(value).isdecimal():
        raise Refusal(400, "That is not an id or a number.")
    return int(str(value))
