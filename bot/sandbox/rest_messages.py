"""Discord's REST routes about messages, interaction callbacks and interaction webhooks."""

from __future__ import annotations

from itertools import islice

from aiohttp import web

from bot.sandbox import interactions, messages
from bot.sandbox.dispatch import redaction
from bot.sandbox.errors import (
    Json,
    missing_access,
    missing_permissions,
    no_direct_messages,
    not_author,
    thread_archived,
    thread_locked,
)
from bot.sandbox.gate import API, BODY, reply
from bot.sandbox.model import Channel, Message
from bot.sandbox.payloads import message_json
from bot.sandbox.permissions import Permission, permissions_in, sending_right
from bot.sandbox.rest import bot_channel, number
from bot.sandbox.world import World


class MessageRest:
    """Handlers over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        base = f"{API}/channels/{{channel_id}}/messages"
        router.add_get(base, self.history)
        router.add_post(base, self.send)
        router.add_get(f"{base}/{{message_id}}", self.get)
        router.add_patch(f"{base}/{{message_id}}", self.edit)
        router.add_delete(f"{base}/{{message_id}}", self.delete)
        callback = "/interactions/{interaction_id}/{interaction_token}/callback"
        router.add_post(f"{API}{callback}", self.callback)
        hook = f"{API}/webhooks/{{webhook_id}}/{{webhook_token}}"
        router.add_post(hook, self.follow_up)
        for key in ("@original", "{message_id}"):
            router.add_get(f"{hook}/messages/{key}", self.get_response)
            router.add_patch(f"{hook}/messages/{key}", self.edit_response)
            router.add_delete(f"{hook}/messages/{key}", self.delete_response)

    async def history(self, request: web.Request) -> web.Response:
        """Return messages, newest first, by before, after or around and limit."""
        channel = bot_channel(self._world, request)
        if not self._may(channel, Permission.READ_MESSAGE_HISTORY):
            return reply([])
        query = request.query
        limit = min(100, int(query.get("limit", 50)))
        newest = [m for m in reversed(channel.messages.values()) if not m.ephemeral]
        if "before" in query:
            found = islice((m for m in newest if m.id < int(query["before"])), limit)
        elif "after" in query:
            later = (m for m in reversed(newest) if m.id > int(query["after"]))
            found = reversed(list(islice(later, limit)))
        elif "around" in query:
            centre = int(query["around"])
            later = list(islice((m for m in reversed(newest) if m.id > centre), limit // 2))
            older = islice((m for m in newest if m.id <= centre), limit - limit // 2)
            found = iter([*reversed(later), *older])
        else:
            found = islice(newest, limit)
        return reply([self._read(message) for message in found])

    async def send(self, request: web.Request) -> web.Response:
        """Post a message; an enforced nonce seen lately returns the message it made."""
        world, body = self._world, request[BODY]
        channel = bot_channel(world, request)
        if channel.guild is None and not channel.recipients[0].accepts_dms:
            raise no_direct_messages()
        if not self._may(channel, sending_right(channel)):
            raise missing_permissions()
        if body.uploads and not self._may(channel, Permission.ATTACH_FILES):
            raise missing_permissions()
        if channel.locked:
            raise thread_locked()
        known = messages.find_repeat(world, channel, world.bot, body.fields)
        if known is not None:
            return reply(message_json(known))
        channel.archived = False  # A new message opens a thread again.
        message = messages.compose(world, channel, world.bot, body.fields, body.uploads)
        return reply(message_json(message))

    async def get(self, request: web.Request) -> web.Response:
        """Return one message."""
        message = self._message(request)
        if not self._may(message.channel, Permission.READ_MESSAGE_HISTORY):
            raise missing_access()
        return reply(self._read(message))

    async def edit(self, request: web.Request) -> web.Response:
        """Edit one of the bot's own messages."""
        message, body = self._message(request), request[BODY]
        if message.author is not self._world.bot:
            raise not_author()
        if body.uploads and not self._may(message.channel, Permission.ATTACH_FILES):
            raise missing_permissions()
        if message.channel.archived:
            raise thread_archived()
        edited = messages.edit(self._world, message, body.fields, body.uploads)
        return reply(message_json(edited))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a message: the bot's own, or any where it manages messages."""
        message = self._message(request)
        own = message.author is self._world.bot
        if not own and not self._may(message.channel, Permission.MANAGE_MESSAGES):
            raise missing_permissions()
        self._world.delete_message(message)
        return reply(None, 204)

    async def callback(self, request: web.Request) -> web.Response:
        """Take the first response to an interaction."""
        key, token = number(request, "interaction_id"), request.match_info["interaction_token"]
        body = interactions.first_response(self._world, key, token, request[BODY])
        if request.query.get("with_response", "").lower() in ("1", "true"):
            return reply(body)
        return reply(None, 204)

    async def follow_up(self, request: web.Request) -> web.Response:
        """Post a follow-up message."""
        interaction = self._interaction(request)
        return reply(message_json(interactions.follow_up(self._world, interaction, request[BODY])))

    async def get_response(self, request: web.Request) -> web.Response:
        """Return the original response or a follow-up."""
        return reply(message_json(self._response(request)))

    async def edit_response(self, request: web.Request) -> web.Response:
        """Edit the original response or a follow-up."""
        message, body = self._response(request), request[BODY]
        if message.channel.archived:
            raise thread_archived()
        edited = messages.edit(self._world, message, body.fields, body.uploads)
        return reply(message_json(edited))

    async def delete_response(self, request: web.Request) -> web.Response:
        """Delete the original response or a follow-up."""
        self._world.delete_message(self._response(request))
        return reply(None, 204)

    def _read(self, message: Message) -> Json:
        world = self._world
        return message_json(message) | redaction(world, message, world.privileged_intents)

    def _may(self, channel: Channel, right: Permission) -> bool:
        return right in permissions_in(self._world.bot, channel)

    def _message(self, request: web.Request) -> Message:
        channel = bot_channel(self._world, request)
        return self._world.message(channel, number(request, "message_id"))

    def _interaction(self, request: web.Request) -> interactions.Interaction:
        info = request.match_info
        return interactions.by_token(self._world, info["webhook_id"], info["webhook_token"])

    def _response(self, request: web.Request) -> Message:
        key = request.match_info.get("message_id", "@original")
        return interactions.target(self._interaction(request), key)
