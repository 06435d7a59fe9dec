"""Permissions: Discord's bits, and how roles and overwrites combine."""

from __future__ import annotations

from enum import IntFlag

from bot.sandbox.model import Channel, ChannelType, User


class Permission(IntFlag):
    """The bits of Discord's permissions that the sandbox knows."""

    NONE = 0
    KICK_MEMBERS = 1 << 1
    ADMINISTRATOR = 1 << 3
    MANAGE_CHANNELS = 1 << 4
    MANAGE_GUILD = 1 << 5
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_MESSAGE_HISTORY = 1 << 16
    MENTION_EVERYONE = 1 << 17
    USE_APPLICATION_COMMANDS = 1 << 31
    SEND_MESSAGES_IN_THREADS = 1 << 38
    MODERATE_MEMBERS = 1 << 40


MEMBER = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.SEND_MESSAGES_IN_THREADS
)
BOT = MEMBER | Permission.MENTION_EVERYONE
FOREIGN_APP = Permission.EMBED_LINKS | Permission.ATTACH_FILES | Permission.MENTION_EVERYONE
"""What an app may do in its answers where only a user has it installed."""
EVERYTHING = Permission(sum(Permission))


def permissions_in(user: User, channel: Channel) -> Permission:
    """Return what `user` may do in `channel`; nothing where the user is not a member."""
    guild = channel.guild
    if channel.type is ChannelType.GROUP_DM:  # No bot can be in one.
        return MEMBER if user in channel.recipients else Permission.NONE
    if guild is None:
        return BOT if user in channel.recipients or user.bot else Permission.NONE
    member = guild.members.get(user.id)
    if member is None:
        return Permission.NONE
    held = [guild.roles[guild.id], *(guild.roles[role] for role in member.roles)]
    granted = Permission.NONE
    for role in held:
        granted |= Permission(role.permissions)
    if Permission.ADMINISTRATOR in granted or user.id == guild.owner_id:
        return EVERYTHING
    overwrites = (channel.thread_of or channel).overwrites
    if everyone := overwrites.get(guild.id):
        granted = granted & ~everyone.deny | everyone.allow
    allow = deny = 0
    for role in held[1:]:
        if entry := overwrites.get(role.id):
            allow |= entry.allow
            deny |= entry.deny
    granted = granted & ~deny | allow
    if own := overwrites.get(user.id):
        granted = granted & ~own.deny | own.allow
    if Permission.VIEW_CHANNEL not in Permission(granted):
        return Permission.NONE
    return Permission(granted)


def app_permissions(bot: User, channel: Channel) -> Permission:
    """Return what an interaction says that the app may do in `channel`."""
    guild = channel.guild
    if channel.type is ChannelType.GROUP_DM or (guild and bot.id not in guild.members):
        return FOREIGN_APP
    return permissions_in(bot, channel)


def can_see(user: User, channel: Channel) -> bool:
    """Say whether `user` sees `channel` at all."""
    return Permission.VIEW_CHANNEL in permissions_in(user, channel)


def sending_right(channel: Channel) -> Permission:
    """Return the permission that sending into `channel` needs."""
    if channel.type is ChannelType.PUBLIC_THREAD:
        return Permission.SEND_MESSAGES_IN_THREADS
    return Permission.SEND_MESSAGES
