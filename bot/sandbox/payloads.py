"""The sandbox's objects in Discord's JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bot.sandbox.errors import Json
from bot.sandbox.model import (
    Channel,
    ChannelType,
    File,
    Flag,
    Guild,
    Interaction,
    InteractionType,
    Member,
    Message,
    Role,
    User,
)
from bot.sandbox.permissions import app_permissions, permissions_in
from bot.sandbox.scene import APPLICATION_ID

FORWARD: Final = 1
"""The type of a reference to a message that is forwarded, not answered."""
# https://discord.com/developers/docs/resources/message#message-snapshot-object
_SNAPSHOT_FIELDS: Final = (
    *("type", "content", "embeds", "attachments", "timestamp", "edited_timestamp", "flags"),
    *("mentions", "mention_roles", "components"),
)
JOINED_AT = "2026-01-01T00:00:00.000000+00:00"

_NULL_IN_GUILD: Final[list[str]] = [
    "icon",
    "description",
    "home_header",
    "splash",
    "discovery_splash",
    "banner",
    "application_id",
    "afk_channel_id",
    "system_channel_id",
    "widget_channel_id",
    "vanity_url_code",
    "rules_channel_id",
    "safety_alerts_channel_id",
    "public_updates_channel_id",
    "incidents_data",
    "max_presences",
]
_ZERO_IN_GUILD: Final[list[str]] = [
    "system_channel_flags",
    "verification_level",
    "default_message_notifications",
    "mfa_level",
    "explicit_content_filter",
    "premium_tier",
    "premium_subscription_count",
    "nsfw_level",
]


_SPOKEN: Final[Json] = {
    "bitrate": 64000,
    "user_limit": 0,
    "rtc_region": None,
    "video_quality_mode": 1,
}
_POSTED: Final[Json] = {
    "available_tags": [],
    "default_reaction_emoji": None,
    "default_sort_order": None,
    "default_forum_layout": 0,
}
_KIND_FIELDS: Final = {
    ChannelType.VOICE: _SPOKEN,
    ChannelType.STAGE: _SPOKEN,
    ChannelType.FORUM: _POSTED,
    ChannelType.MEDIA: _POSTED,
}


def timestamp(seconds: float) -> str:
    """Return a Unix time as Discord writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def user_json(user: User) -> Json:
    """Return a user object."""
    return {
        "id": str(user.id),
        "username": user.name,
        "discriminator": "0",
        "global_name": None if user.bot else user.display_name,
        "avatar": None,
        "bot": user.bot,
        "flags": 0,
        "public_flags": 0,
        "primary_guild": None,
    }


def own_user_json(user: User) -> Json:
    """Return the bot's own user object."""
    extra = {"mfa_enabled": False, "locale": user.locale, "verified": True, "email": None}
    return user_json(user) | extra


def member_json(member: Member, *, with_user: bool = True) -> Json:
    """Return a guild member object."""
    body: Json = {
        "avatar": None,
        "banner": None,
        "communication_disabled_until": None,
        "flags": 0,
        "joined_at": JOINED_AT,
        "nick": None,
        "pending": False,
        "premium_since": None,
        "roles": [str(role) for role in member.roles],
        "mute": False,
        "deaf": False,
    }
    return body | ({"user": user_json(member.user)} if with_user else {})


def role_json(role: Role) -> Json:
    """Return a role object."""
    return {
        "id": str(role.id),
        "name": role.name,
        "permissions": str(int(role.permissions)),
        "position": role.position,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": role.managed,
        "mentionable": False,
        "icon": None,
        "unicode_emoji": None,
        "flags": 0,
    }


def channel_json(channel: Channel) -> Json:
    """Return a channel, thread or private channel object."""
    last = next((m.id for m in reversed(channel.messages.values()) if not m.ephemeral), None)
    body: Json = {
        "id": str(channel.id),
        "type": int(channel.type),
        "flags": 0,
        "last_message_id": None if last is None else str(last),
    }
    if channel.guild is None:
        body["recipients"] = [user_json(user) for user in channel.recipients]
        if channel.type is ChannelType.GROUP_DM:
            owner = str(channel.recipients[0].id)
            body |= {"name": channel.name, "icon": None, "owner_id": owner}
        return body
    body |= {"guild_id": str(channel.guild.id), "name": channel.name, "rate_limit_per_user": 0}
    body["parent_id"] = None if channel.parent is None else str(channel.parent.id)
    if channel.type is ChannelType.PUBLIC_THREAD:
        return body | _thread_fields(channel, channel.guild)
    overwrites = [
        {"id": str(key), "type": entry.kind, "allow": str(int(entry.allow))}
        | {"deny": str(int(entry.deny))}
        for key, entry in channel.overwrites.items()
    ]
    return (
        body
        | _KIND_FIELDS.get(channel.type, {})
        | {
            "position": channel.position,
            "topic": channel.topic,
            "nsfw": channel.nsfw,
            "permission_overwrites": overwrites,
        }
    )


def _thread_fields(channel: Channel, guild: Guild) -> Json:
    count = len(channel.messages)
    return {
        "owner_id": str(guild.owner_id),
        "message_count": count,
        "member_count": len(guild.members),
        "total_message_sent": count,
        "thread_metadata": {
            "archived": channel.archived,
            "archive_timestamp": JOINED_AT,
            "auto_archive_duration": 10080,
            "locked": channel.locked,
            "create_timestamp": JOINED_AT,
        },
    }


def guild_json(guild: Guild) -> Json:
    """Return a guild object as REST gives it."""
    body: Json = dict.fromkeys(_NULL_IN_GUILD) | dict.fromkeys(_ZERO_IN_GUILD, 0)
    return body | {
        "id": str(guild.id),
        "name": guild.name,
        "owner_id": str(guild.owner_id),
        "region": "us-west",
        "afk_timeout": 300,
        "features": [],
        "emojis": [],
        "stickers": [],
        "widget_enabled": False,
        "max_members": 500000,
        "max_stage_video_channel_users": 50,
        "max_video_channel_users": 25,
        "preferred_locale": guild.locale,
        "premium_progress_bar_enabled": False,
        "nsfw": False,
        "roles": [role_json(role) for role in guild.roles.values()],
    }


def file_json(file: File, *, ephemeral: bool = False) -> Json:
    """Return an attachment object."""
    body: Json = {
        "id": str(file.id),
        "filename": file.filename,
        "size": len(file.data),
        "url": file.url,
        "proxy_url": file.url,
        "flags": 0,
    }
    if file.content_type is not None:
        body["content_type"] = file.content_type
    if file.width is not None:
        body |= {"width": file.width, "height": file.height}
    if file.description is not None:
        body["description"] = file.description
    return body | ({"ephemeral": True} if ephemeral else {})


def message_json(message: Message, *, quoted: bool = False) -> Json:
    """Return a message object as REST gives it; a quoted one quotes no further."""
    body: Json = {
        "id": str(message.id),
        "channel_id": str(message.channel.id),
        "type": message.type,
        "author": user_json(message.author),
        "content": message.content,
        "embeds": [] if message.flags & Flag.SUPPRESS_EMBEDS else message.embeds,
        "attachments": [
            file_json(file, ephemeral=message.ephemeral) for file in message.attachments
        ],
        "components": message.components,
        "flags": message.flags,
        "timestamp": timestamp(message.created),
        "edited_timestamp": None if message.edited is None else timestamp(message.edited),
        "mentions": [user_json(user) for user in message.mentions],
        "mention_roles": [],
        "mention_everyone": message.mention_everyone,
        "pinned": False,
        "tts": False,
    }
    if message.nonce is not None:
        body["nonce"] = message.nonce
    if message.interaction is not None:
        application = str(message.author.id)
        body |= {"application_id": application, "webhook_id": application}
        body["interaction_metadata"] = metadata_json(message.interaction)
        if message.interaction.type is InteractionType.COMMAND:
            body["interaction"] = {
                "id": str(message.interaction.id),
                "type": int(message.interaction.type),
                "name": message.interaction.name,
                "user": user_json(message.interaction.user),
            }
    if (source := message.reference) is not None:
        kind = 0 if message.forwarded is None else FORWARD
        body["message_reference"] = {"type": kind, "channel_id": str(source.channel.id)} | {
            "message_id": str(source.id)
        }
        if source.channel.guild is not None:
            body["message_reference"]["guild_id"] = str(source.channel.guild.id)
        if message.forwarded is not None:
            whole = message_json(message.forwarded, quoted=True)
            part = {key: whole[key] for key in _SNAPSHOT_FIELDS}
            body["message_snapshots"] = [{"message": part}]
        elif not quoted:
            answered = None if source.deleted else message_json(source, quoted=True)
            body["referenced_message"] = answered
    return body


def owners_json(interaction: Interaction) -> Json:
    """Return by whose installation the app acts: the guild's, and the user's own if any.

    A button or form acts by the installation of the command that its message answers.
    """
    source = interaction
    while (before := source.parent or (source.message and source.message.interaction)) is not None:
        source = before
    guild, user = source.channel.guild, source.user
    owners: Json = {} if guild or source.channel.type is ChannelType.GROUP_DM else {"0": "0"}
    if guild and APPLICATION_ID in guild.members:
        owners["0"] = str(guild.id)
    return owners | ({"1": str(user.id)} if user.installed else {})


def metadata_json(interaction: Interaction) -> Json:
    """Return what a message says of the interaction that it answers."""
    body: Json = {
        "id": str(interaction.id),
        "type": int(interaction.type),
        "user": user_json(interaction.user),
        "authorizing_integration_owners": owners_json(interaction),
    }
    if interaction.type is InteractionType.COMMAND:
        body["name"] = interaction.name
    if interaction.type is InteractionType.COMPONENT and interaction.message is not None:
        body["interacted_message_id"] = str(interaction.message.id)
    if interaction.type is InteractionType.MODAL_SUBMIT and interaction.parent is not None:
        body["triggering_interaction_metadata"] = metadata_json(interaction.parent)
    return body


def interaction_json(interaction: Interaction, bot: User, attachment_limit: int) -> Json:
    """Return the payload of INTERACTION_CREATE."""
    channel, user = interaction.channel, interaction.user
    guild = channel.guild
    held = str(int(permissions_in(user, channel)))
    body: Json = {
        "id": str(interaction.id),
        "application_id": str(bot.id),
        "type": int(interaction.type),
        "token": interaction.token,
        "version": 1,
        "data": interaction.data,
        "channel_id": str(channel.id),
        "channel": channel_json(channel) | {"permissions": held},
        "app_permissions": str(int(app_permissions(bot, channel))),
        "locale": user.locale,
        "entitlements": [],
        "entitlement_sku_ids": [],
        "authorizing_integration_owners": owners_json(interaction),
        "context": 0 if guild else 2 if channel.type is ChannelType.GROUP_DM else 1,
        "attachment_size_limit": attachment_limit,
    }
    if interaction.message is not None:
        body["message"] = message_json(interaction.message)
    if guild is None:
        return body | {"user": user_json(user)}
    return body | {
        "guild_id": str(guild.id),
        "guild_locale": guild.locale,
        "guild": {"id": str(guild.id), "locale": guild.locale, "features": []},
        "member": member_json(guild.members[user.id]) | {"permissions": held},
    }
