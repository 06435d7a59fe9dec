"""The state of the sandbox: who and what exists, who may see it, and what just happened."""

from __future__ import annotations

import io
import mimetypes
import re
from typing import Final
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from bot.sandbox import scene
from bot.sandbox.clock import Clock
from bot.sandbox.commands import Commands
from bot.sandbox.errors import Refusal, unknown_channel, unknown_message, unknown_user
from bot.sandbox.events import (
    ChannelChanged,
    ChannelDeleted,
    Events,
    GuildLeft,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    StateChanged,
)
from bot.sandbox.model import (
    Channel,
    ChannelType,
    File,
    Guild,
    Interaction,
    Message,
    Overwrite,
    User,
)
from bot.sandbox.permissions import Permission, can_see

DISCORD_EPOCH_MS: Final = 1_420_070_400_000
ATTACHMENT_LIMIT: Final = 10 * 1024 * 1024
"""Bytes that one file may have, Discord's default."""


class World:
    """Everything in memory; changes are announced on `events`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events = Events()
        self.base_url = ""
        self.application_id = scene.APPLICATION_ID
        self.users = scene.build_users()
        self.guild: Guild = scene.build_guild(self.users)
        self.channels = scene.build_channels(self.guild)
        self.foreign_guild: Guild = scene.build_foreign_guild(self.users)
        lounge = scene.build_foreign_channel(self.foreign_guild)
        self.channels[lounge.id] = lounge
        self.channels[scene.GROUP_ID] = scene.build_group(self.users)
        self.bot = self.users[scene.APPLICATION_ID]
        self.bot_online = False
        self.privileged_intents = 0
        self.commands = Commands(self.application_id, self.new_id)
        self.interactions: dict[int, Interaction] = {}
        self.tokens: dict[str, Interaction] = {}
        self.files: dict[int, File] = {}
        self.attachment_limit = ATTACHMENT_LIMIT
        self.notices: dict[str, str] = {}
        """What the page says above everything, by Discord locale; `en-US` serves the others."""
        self._last_id = 0

    def new_id(self) -> int:
        """Return a snowflake of now, greater than every one before."""
        milliseconds = int(self.clock.now() * 1000) - DISCORD_EPOCH_MS
        self._last_id = max(self._last_id + 1, milliseconds << 22)
        return self._last_id

    def user(self, key: str | int | User) -> User:
        """Return a user by object, name or id; raise error 10013."""
        for user in self.users.values():
            if key in (user, user.id, user.name, str(user.id)):
                return user
        raise unknown_user()

    def channel(self, key: str | int | Channel) -> Channel:
        """Return a channel by object, id, or name with or without `#`; raise error 10003."""
        for channel in self.channels.values():
            named = channel.type is not ChannelType.DM
            names = (channel.name, f"#{channel.name}") if named else ()
            if key in (channel, channel.id, str(channel.id), *names):
                return channel
        raise unknown_channel()

    def dm(self, user: User) -> Channel:
        """Return the direct messages between `user` and the bot, made at first need."""
        channel_id = user.id + scene.DM_OFFSET
        if channel_id not in self.channels:
            self.channels[channel_id] = Channel(
                channel_id, ChannelType.DM, user.name, recipients=[user]
            )
            self.events.emit(StateChanged())
        return self.channels[channel_id]

    def message(self, channel: Channel, message_id: int) -> Message:
        """Return a message that is no ephemeral one; raise error 10008."""
        message = channel.messages.get(message_id)
        if message is None or message.ephemeral:
            raise unknown_message()
        return message

    def find_message(self, user: User, message_id: int) -> Message:
        """Return a message that `user` sees; raise `Refusal`."""
        for channel in self.channels.values():
            message = channel.messages.get(message_id)
            if message is not None and self.sees(user, message):
                return message
        raise Refusal(404, "This message no longer exists, or is not yours to see.")

    def sees(self, user: User, message: Message) -> bool:
        """Say whether `user` may see `message`."""
        hidden = message.ephemeral and message.visible_to is not user
        return not hidden and can_see(user, message.channel)

    def add_message(self, message: Message) -> Message:
        """Put a new message at the end of its channel."""
        message.channel.messages[message.id] = message
        self.events.emit(MessageCreated(message))
        return message

    def touch_message(self, message: Message, *, edited: bool = True) -> None:
        """Announce that `message` changed."""
        if edited:
            message.edited = self.clock.now()
        self.events.emit(MessageUpdated(message))

    def delete_message(self, message: Message) -> None:
        """Remove `message`."""
        message.deleted = True
        message.channel.messages.pop(message.id, None)
        self.events.emit(MessageDeleted(message))

    def delete_channel(self, key: str | int | Channel) -> None:
        """Remove a channel with all its messages."""
        channel = self.channel(key)
        for message in list(channel.messages.values()):
            self.delete_message(message)
        del self.channels[channel.id]
        self.events.emit(ChannelDeleted(channel))

    def remove_bot(self) -> None:
        """Take the bot out of the guild; who installed the app still uses it there."""
        del self.guild.members[self.bot.id]
        self.events.emit(GuildLeft(self.guild))

    def add_file(
        self, channel: Channel, filename: str, data: bytes, description: str | None = None
    ) -> File:
        """Keep an uploaded file and give it an address."""
        safe = re.sub(r"[^\w.()-]+", "_", filename.replace(" ", "_")).lstrip(".") or "unknown"
        kind = mimetypes.guess_type(safe)[0] or "application/octet-stream"
        width, height = _picture_size(data) if kind.startswith("image/") else (None, None)
        file_id = self.new_id()
        url = f"{self.base_url}/attachments/{channel.id}/{file_id}/{quote(safe)}"
        file = File(file_id, safe, data, kind, url, description, width, height)
        self.files[file_id] = file
        return file

    def overwrite(
        self,
        channel: str | int | Channel,
        who: User | None = None,
        *,
        allow: Permission = Permission.NONE,
        deny: Permission = Permission.NONE,
    ) -> None:
        """Set the overwrite of one member (the bot, if none is named) in a guild channel."""
        place = self.channel(channel)
        place.overwrites[(who or self.bot).id] = Overwrite(1, allow=allow, deny=deny)
        self.events.emit(ChannelChanged(place))


def _picture_size(data: bytes) -> tuple[int | None, int | None]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None, None
