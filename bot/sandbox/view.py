"""The view of one user on the page: state, messages and events in its own JSON."""

from __future__ import annotations

from bot.sandbox.errors import Json
from bot.sandbox.events import (
    ChannelChanged,
    Event,
    InteractionAnswered,
    InteractionCreated,
    InteractionFailed,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    StateChanged,
    Typing,
)
from bot.sandbox.model import ChannelType, Interaction, InteractionType, Message, User
from bot.sandbox.payloads import message_json
from bot.sandbox.permissions import Permission, can_see, permissions_in
from bot.sandbox.world import World


def state(world: World) -> Json:
    """Return users, channels, direct messages and commands."""
    people = [user for user in world.users.values() if not user.bot]
    general = next(iter(world.channels.values()))
    places = [
        channel
        for channel in world.channels.values()
        if channel.guild is not None and channel.type.holds_messages
    ]
    # A thread stands under its channel.
    places.sort(key=lambda c: ((c.thread_of or c).position, c.thread_of is not None))
    return {
        "application": {"id": str(world.application_id), "name": world.bot.name},
        "bot": {"id": str(world.bot.id), "name": world.bot.name, "online": world.bot_online},
        "users": [
            {
                "id": str(user.id),
                "name": user.name,
                "display_name": user.display_name,
                "locale": user.locale,
                "installed": user.installed,
                "admin": Permission.ADMINISTRATOR in permissions_in(user, general),
            }
            for user in people
        ],
        "guilds": [
            {
                "id": str(guild.id),
                "name": guild.name,
                "installed": world.bot.id in guild.members,
                "roles": [{"id": str(role.id), "name": role.name} for role in guild.roles.values()],
                "members": [str(user.id) for user in people if user.id in guild.members],
                "channels": [
                    {
                        "id": str(channel.id),
                        "name": channel.name,
                        "type": int(channel.type),
                        "topic": channel.topic,
                        "nsfw": channel.nsfw,
                        "visible_to": [str(user.id) for user in people if can_see(user, channel)],
                    }
                    for channel in places
                    if channel.guild is guild
                ],
            }
            for guild in (world.guild, world.foreign_guild)
        ],
        "groups": [
            {
                "id": str(channel.id),
                "name": channel.name,
                "type": int(channel.type),
                "visible_to": [str(user.id) for user in channel.recipients],
            }
            for channel in world.channels.values()
            if channel.type is ChannelType.GROUP_DM
        ],
        "dms": {str(user.id): str(world.dm(user).id) for user in people},
        "commands": world.commands.everything(),
        "notices": world.notices,
    }


def message(item: Message) -> Json:
    """Return a message with what the page asks besides Discord's fields."""
    body = message_json(item) | {"ephemeral": item.ephemeral, "thinking": item.thinking}
    body.pop("interaction", None)
    source = item.interaction
    if source is not None and source.type is InteractionType.COMMAND:
        body["interaction"] = {"name": source.name, "user_id": str(source.user.id)}
    return body


def event(world: World, user: User, happened: Event) -> list[Json]:
    """Return what `user` is told of an event."""
    match happened:
        case MessageCreated(item) if world.sees(user, item):
            return [{"type": "message_create", "message": message(item)}]
        case MessageUpdated(item) if world.sees(user, item):
            return [{"type": "message_update", "message": message(item)}]
        case MessageDeleted(item) if world.sees(user, item):
            ids = {"channel_id": str(item.channel.id), "message_id": str(item.id)}
            return [{"type": "message_delete"} | ids]
        case InteractionFailed(source) if source.user is user:
            if source.type is InteractionType.AUTOCOMPLETE:
                return []
            about = {"interaction_id": str(source.id), "sentence": source.failure}
            about["channel_id"] = str(source.channel.id)
            return [{"type": "interaction_failed"} | about]
        case InteractionAnswered(source) if source.user is user:
            if source.type is InteractionType.AUTOCOMPLETE:
                return []
            return [_answered(source)]
        case Typing(channel, who) if can_see(user, channel):
            ids = {"channel_id": str(channel.id), "user_id": str(who.id)}
            return [{"type": "typing"} | ids]
        case StateChanged() | ChannelChanged():
            return [{"type": "state"}]
        case InteractionCreated():
            return []
        case _:
            return []


def _answered(source: Interaction) -> Json:
    body: Json = {"type": "interaction_answered", "interaction_id": str(source.id)}
    if (modal := source.modal) is not None:
        body |= {"type": "modal", "title": modal.title, "custom_id": modal.custom_id}
        body["components"] = modal.components
    return body
