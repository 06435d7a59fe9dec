"""Dispatch of gateway events: which a session gets, by its intents and shard, and as what."""

from __future__ import annotations

from typing import Final

from bot.sandbox.errors import Json
from bot.sandbox.events import (
    ChannelChanged,
    ChannelDeleted,
    Event,
    GuildLeft,
    InteractionCreated,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    Typing,
)
from bot.sandbox.model import Channel, ChannelType, Guild, Interaction, Message
from bot.sandbox.payloads import (
    JOINED_AT,
    channel_json,
    guild_json,
    interaction_json,
    member_json,
    message_json,
    own_user_json,
)
from bot.sandbox.permissions import can_see
from bot.sandbox.world import World

GUILDS: Final = 1 << 0
GUILD_MESSAGES, GUILD_TYPING = 1 << 9, 1 << 11
DIRECT_MESSAGES, DIRECT_TYPING = 1 << 12, 1 << 14
MESSAGE_CONTENT: Final = 1 << 15

Frame = tuple[str, Json]


def ready(world: World, session_id: str, url: str) -> Json:
    """Return the payload of READY."""
    return {
        "v": 10,
        "user": own_user_json(world.bot),
        "guilds": [{"id": str(guild.id), "unavailable": True} for guild in bot_guilds(world)],
        "session_id": session_id,
        "resume_gateway_url": url,
        "session_type": "normal",
        "private_channels": [],
        "application": {"id": str(world.application_id), "flags": 0},
    }


def bot_guilds(world: World) -> list[Guild]:
    """Return the guilds that the bot is in."""
    return [world.guild] if world.bot.id in world.guild.members else []


def guild_create(world: World) -> Json:
    """Return the payload of GUILD_CREATE; members are only the bot, as without that intent."""
    guild = world.guild
    places = [channel for channel in world.channels.values() if channel.guild is guild]
    threads = [place for place in places if place.type is ChannelType.PUBLIC_THREAD]
    return guild_json(guild) | {
        "joined_at": JOINED_AT,
        "large": False,
        "unavailable": False,
        "member_count": len(guild.members),
        "members": [member_json(guild.members[world.bot.id])],
        "channels": [channel_json(place) for place in places if place not in threads],
        "threads": [channel_json(thread) for thread in threads],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def created(world: World, interaction: Interaction) -> list[Frame]:
    """Return INTERACTION_CREATE."""
    body = interaction_json(interaction, world.bot, world.attachment_limit)
    return [("INTERACTION_CREATE", body)]


def for_shard(guild_id: int | None, shard: tuple[int, int]) -> bool:
    """Say whether a guild's events (None: direct messages) belong to a shard."""
    index, count = shard
    return ((guild_id or 0) >> 22) % count == index


def frames(world: World, event: Event, intents: int, shard: tuple[int, int]) -> list[Frame]:
    """Return what a session gets of `event`."""
    match event:
        case InteractionCreated(interaction):
            channel = interaction.channel
            return created(world, interaction) if _mine(channel, shard) else []
        case MessageCreated(message) if _heard(world, message, intents, shard):
            return [("MESSAGE_CREATE", _message(world, message, intents))]
        case MessageUpdated(message) if _heard(world, message, intents, shard):
            return [("MESSAGE_UPDATE", _message(world, message, intents))]
        case MessageDeleted(message) if _heard(world, message, intents, shard):
            return [("MESSAGE_DELETE", _place(message.channel) | {"id": str(message.id)})]
        case ChannelChanged(channel) if intents & GUILDS and _mine(channel, shard):
            return [("CHANNEL_UPDATE", channel_json(channel))]
        case ChannelDeleted(channel) if intents & GUILDS and _mine(channel, shard):
            return [("CHANNEL_DELETE", channel_json(channel))]
        case GuildLeft(guild) if intents & GUILDS and for_shard(guild.id, shard):
            return [("GUILD_DELETE", {"id": str(guild.id)})]
        case Typing(channel, user) if _mine(channel, shard):
            if not intents & (GUILD_TYPING if channel.guild else DIRECT_TYPING):
                return []
            now = int(world.clock.now())
            body = _place(channel) | {"user_id": str(user.id), "timestamp": now}
            return [("TYPING_START", body)]
        case _:
            return []


def _mine(channel: Channel, shard: tuple[int, int]) -> bool:
    return for_shard(channel.guild.id if channel.guild else None, shard)


def _heard(world: World, message: Message, intents: int, shard: tuple[int, int]) -> bool:
    wanted = GUILD_MESSAGES if message.channel.guild else DIRECT_MESSAGES
    seen = can_see(world.bot, message.channel) and not message.ephemeral
    return bool(intents & wanted) and seen and _mine(message.channel, shard)


def _place(channel: Channel) -> Json:
    guild = channel.guild
    body: Json = {"channel_id": str(channel.id)}
    return body | ({"guild_id": str(guild.id)} if guild else {})


def _message(world: World, message: Message, intents: int) -> Json:
    body = message_json(message) | _place(message.channel)
    guild = message.channel.guild
    if guild is None:
        return body | {"channel_type": int(message.channel.type)}
    body["member"] = member_json(guild.members[message.author.id], with_user=False)
    return body | redaction(world, message, intents)


def redaction(world: World, message: Message, intents: int) -> Json:
    """Return the empty contents that hide a message from a bot without that intent."""
    own = message.author is world.bot or world.bot in message.mentions
    if message.channel.guild is None or own or intents & MESSAGE_CONTENT:
        return {}
    return {"content": "", "embeds": [], "attachments": [], "components": []}
