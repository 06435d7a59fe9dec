"""The model of what exists: users, guilds, channels, files, messages and interactions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final

from bot.sandbox.clock import Timer
from bot.sandbox.errors import Json

TEXT_DISPLAY: Final = 10


class ChannelType(IntEnum):
    """Discord's channel types, as far as they occur here."""

    TEXT = 0
    DM = 1
    VOICE = 2
    GROUP_DM = 3
    CATEGORY = 4
    ANNOUNCEMENT = 5
    PUBLIC_THREAD = 11
    STAGE = 13
    FORUM = 15
    MEDIA = 16

    @property
    def holds_messages(self) -> bool:
        """Whether one can write into it: a forum has posts (threads), a category channels."""
        return self not in (ChannelType.CATEGORY, ChannelType.FORUM, ChannelType.MEDIA)


class Flag(IntEnum):
    """Message flags."""

    SUPPRESS_EMBEDS = 1 << 2
    EPHEMERAL = 1 << 6
    LOADING = 1 << 7
    SUPPRESS_NOTIFICATIONS = 1 << 12
    COMPONENTS_V2 = 1 << 15


class InteractionType(IntEnum):
    """What the user did."""

    COMMAND = 2
    COMPONENT = 3
    AUTOCOMPLETE = 4
    MODAL_SUBMIT = 5


class Callback(IntEnum):
    """How the bot answers an interaction first."""

    MESSAGE = 4
    DEFERRED_MESSAGE = 5
    DEFERRED_UPDATE = 6
    UPDATE = 7
    CHOICES = 8
    MODAL = 9


class Progress(StrEnum):
    """Where an interaction stands."""

    PENDING = "pending"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class User:
    """A person, or the bot; `installed` says that the person added the app to their account."""

    id: int
    name: str
    display_name: str
    locale: str = "en-US"
    bot: bool = False
    accepts_dms: bool = True
    installed: bool = False


@dataclass(slots=True, eq=False)
class Role:
    """A role of a guild; the one with the guild's id is @everyone."""

    id: int
    name: str
    permissions: int
    position: int = 0
    managed: bool = False


@dataclass(slots=True, eq=False)
class Member:
    """A user in a guild."""

    user: User
    roles: list[int] = field(default_factory=list[int])


@dataclass(slots=True, eq=False)
class Guild:
    """A server."""

    id: int
    name: str
    owner_id: int
    roles: dict[int, Role] = field(default_factory=dict[int, Role])
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    locale: str = "en-US"


@dataclass(frozen=True, slots=True)
class Overwrite:
    """What a role or a member may do more or less in one channel."""

    kind: int
    allow: int = 0
    deny: int = 0


@dataclass(slots=True, eq=False)
class Channel:
    """A channel of a server, a thread, the direct messages with one user, or those of a group.

    `parent` is a thread's channel (a post's forum), or the category that a channel stands in.
    """

    id: int
    type: ChannelType
    name: str
    guild: Guild | None = None
    topic: str | None = None
    nsfw: bool = False
    position: int = 0
    parent: Channel | None = None
    recipients: list[User] = field(default_factory=list[User])
    overwrites: dict[int, Overwrite] = field(default_factory=dict[int, Overwrite])
    archived: bool = False
    locked: bool = False
    messages: dict[int, Message] = field(default_factory=dict[int, "Message"])

    @property
    def thread_of(self) -> Channel | None:
        """The channel of a thread; None for all others."""
        return self.parent if self.type is ChannelType.PUBLIC_THREAD else None


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """An uploaded file with its address on the sandbox's own CDN.

    `content_type` is what is said of its kind; None says nothing, as Discord now and then does.
    """

    id: int
    filename: str
    data: bytes
    content_type: str | None
    url: str
    description: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(slots=True, eq=False)
class Message:
    """A message as it stands now. `visible_to` is the one user who sees an ephemeral one.

    `forwarded` is the message that this one forwards, as it stood then.
    """

    id: int
    channel: Channel
    author: User
    created: float
    type: int = 0
    content: str = ""
    embeds: list[Json] = field(default_factory=list[Json])
    components: list[Json] = field(default_factory=list[Json])
    files: list[File] = field(default_factory=list[File])
    flags: int = 0
    edited: float | None = None
    nonce: str | int | None = None
    mentions: list[User] = field(default_factory=list[User])
    mention_everyone: bool = False
    interaction: Interaction | None = None
    reference: Message | None = None
    forwarded: Message | None = None
    visible_to: User | None = None
    deleted: bool = False

    @property
    def ephemeral(self) -> bool:
        """Only the invoking user sees it."""
        return bool(self.flags & Flag.EPHEMERAL)

    @property
    def thinking(self) -> bool:
        """The bot deferred and has not answered yet."""
        return bool(self.flags & Flag.LOADING)

    @property
    def attachments(self) -> list[File]:
        """The files that neither an embed nor a component shows; Discord lists those alone."""
        # https://github.com/discord/discord-api-docs/issues/8277
        shown = {
            embed[key].get("url")
            for embed in self.embeds
            for key in ("image", "thumbnail")
            if key in embed
        }
        shown |= {media.get("url") for media in shown_media(self.components)}
        return [file for file in self.files if file.url not in shown]

    @property
    def text(self) -> str:
        """What the message says itself: its content, or its text displays, a line between them."""
        texts = [item["content"] for item in walk(self.components) if item["type"] == TEXT_DISPLAY]
        return "\n\n".join([*([self.content] if self.content else []), *texts])

    @property
    def controls(self) -> list[Json]:
        """Every button and select of the message, in reading order."""
        return [item for item in walk(self.components) if item["type"] in (2, 3, 5, 6, 7, 8)]

    def control(self, name: str) -> Json:
        """Return the button or select with this `custom_id` or label; raise KeyError."""
        for item in self.controls:
            if name in (item.get("custom_id"), item.get("label")):
                return item
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Modal:
    """A form that the bot opened."""

    custom_id: str
    title: str
    components: list[Json]


@dataclass(slots=True, eq=False)
class Interaction:
    """A command, click, form or completion, and what the bot made of it.

    `original` is the message that `@original` means; `choices` answer an autocompletion;
    `sent_at` and `answered_at` are in seconds of `time.perf_counter`.
    """

    id: int
    token: str
    type: InteractionType
    user: User
    channel: Channel
    created: float
    data: Json
    name: str = ""
    message: Message | None = None
    parent: Interaction | None = None
    progress: Progress = Progress.PENDING
    callback: Callback | None = None
    original: Message | None = None
    followups: list[Message] = field(default_factory=list[Message])
    modal: Modal | None = None
    choices: list[Json] | None = None
    failure: str = ""
    sent_at: float = 0.0
    answered_at: float = 0.0
    deadline: Timer | None = None

    @property
    def response_seconds(self) -> float:
        """Seconds from the event sent to the callback received."""
        return self.answered_at - self.sent_at


def shown_media(components: list[Json]) -> list[Json]:
    """Return the pictures and files that components show, in reading order."""
    found: list[Json] = []
    for item in walk(components):
        found += [item[key] for key in ("media", "file") if item.get(key)]
        entries: list[Json] = item.get("items") or []
        found += [entry["media"] for entry in entries]
    return found


def walk(components: list[Json]) -> list[Json]:
    """Return every component of a tree, parents before children."""
    found: list[Json] = []
    for item in components:
        found.append(item)
        children: list[Any] = list(item.get("components") or [])
        children += [item[key] for key in ("accessory", "component") if item.get(key)]
        found += walk(children)
    return found
