"""The world that every sandbox starts with: fixed ids, four users, two servers, a group."""

from __future__ import annotations

from typing import Final

from bot.sandbox.model import Channel, ChannelType, Guild, Member, Overwrite, Role, User
from bot.sandbox.permissions import BOT, EVERYTHING, MEMBER, Permission

APPLICATION_ID: Final = 1100000000000000001
GUILD_ID: Final = 1100000000000000100
ADMIN_ROLE_ID: Final = 1100000000000000101
BOT_ROLE_ID: Final = 1100000000000000102
GENERAL_ID: Final = 1100000000000000111
ART_ID: Final = 1100000000000000112
STAFF_ID: Final = 1100000000000000113
THREAD_ID: Final = 1100000000000000114
GROUP_ID: Final = 1100000000000000115
FOREIGN_GUILD_ID: Final = 1100000000000000120
FOREIGN_CHANNEL_ID: Final = 1100000000000000121
USER_IDS: Final = {
    "alice": 1100000000000000201,
    "bob": 1100000000000000202,
    "chen": 1100000000000000203,
    "mallory": 1100000000000000204,
}
DM_OFFSET: Final = 100
"""The direct messages with a user have the user's id and this much more."""


def build_users() -> dict[int, User]:
    """Return the bot and the four people, by id."""
    users = [
        User(APPLICATION_ID, "Imagine", "Imagine", bot=True),
        User(USER_IDS["alice"], "alice", "Alice"),
        User(USER_IDS["bob"], "bob", "Bob", installed=True),
        User(USER_IDS["chen"], "chen", "小晨", locale="zh-CN"),
        User(USER_IDS["mallory"], "mallory", "Mallory"),
    ]
    return {user.id: user for user in users}


def build_guild(users: dict[int, User]) -> Guild:
    """Return the server: alice owns and administers it, the bot has its own role."""
    guild = Guild(GUILD_ID, "Sandbox", owner_id=USER_IDS["alice"])
    for role in (
        Role(GUILD_ID, "@everyone", MEMBER),
        Role(BOT_ROLE_ID, "Imagine", BOT, position=1, managed=True),
        Role(ADMIN_ROLE_ID, "Admin", EVERYTHING, position=2),
    ):
        guild.roles[role.id] = role
    roles = {APPLICATION_ID: [BOT_ROLE_ID], USER_IDS["alice"]: [ADMIN_ROLE_ID]}
    for user in users.values():
        guild.members[user.id] = Member(user, roles.get(user.id, []))
    return guild


def build_channels(guild: Guild) -> dict[int, Channel]:
    """Return #general, #art with a thread, and #staff, which the bot may not see."""
    hidden = {GUILD_ID: Overwrite(0, deny=Permission.VIEW_CHANNEL)}
    art = Channel(
        ART_ID, ChannelType.TEXT, "art", guild, topic="Pictures, finished and not.", position=1
    )
    channels = [
        Channel(GENERAL_ID, ChannelType.TEXT, "general", guild, topic="Type /imagine to begin."),
        art,
        Channel(STAFF_ID, ChannelType.TEXT, "staff", guild, position=2, overwrites=hidden),
        Channel(THREAD_ID, ChannelType.PUBLIC_THREAD, "sketches", guild, parent=art),
    ]
    return {channel.id: channel for channel in channels}


def build_group(users: dict[int, User]) -> Channel:
    """Return the group of alice and bob; no bot is in it, and bob has the app installed."""
    people = [users[USER_IDS["alice"]], users[USER_IDS["bob"]]]
    return Channel(GROUP_ID, ChannelType.GROUP_DM, "friends", recipients=people)


def build_foreign_guild(users: dict[int, User]) -> Guild:
    """Return a server without the bot: mallory owns it, and bob brings the app he installed."""
    guild = Guild(FOREIGN_GUILD_ID, "Elsewhere", owner_id=USER_IDS["mallory"])
    guild.roles[guild.id] = Role(guild.id, "@everyone", MEMBER)
    for name in ("bob", "mallory"):
        user = users[USER_IDS[name]]
        guild.members[user.id] = Member(user)
    return guild


def build_foreign_channel(guild: Guild) -> Channel:
    """Return the only channel of the foreign server."""
    topic = "The bot is not on this server."
    return Channel(FOREIGN_CHANNEL_ID, ChannelType.TEXT, "lounge", guild, topic=topic)
