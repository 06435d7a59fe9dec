"""Events of the sandbox, for the gateway, for the page and for whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bot.sandbox.model import Channel, Guild, Interaction, Message, User

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MessageCreated:
    """A message appeared."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageUpdated:
    """A message changed."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageDeleted:
    """A message is gone."""

    message: Message


@dataclass(frozen=True, slots=True)
class InteractionCreated:
    """A user did something that the bot has to answer."""

    interaction: Interaction


@dataclass(frozen=True, slots=True)
class InteractionAnswered:
    """The bot gave its first response."""

    interaction: Interaction


@dataclass(frozen=True, slots=True)
class InteractionFailed:
    """The bot gave no first response in time; `interaction.failure` is shown to the user."""

    interaction: Interaction


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody types in a channel."""

    channel: Channel
    user: User


@dataclass(frozen=True, slots=True)
class ChannelChanged:
    """A channel's name or overwrites changed."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ChannelDeleted:
    """A channel is gone."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class GuildLeft:
    """The bot was removed from a guild."""

    guild: Guild


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Commands, the bot's presence or the set of channels changed."""


Event = (
    MessageCreated
    | MessageUpdated
    | MessageDeleted
    | InteractionCreated
    | InteractionAnswered
    | InteractionFailed
    | Typing
    | ChannelChanged
    | ChannelDeleted
    | GuildLeft
    | StateChanged
)


class Events:
    """Passes each event to every listener, then wakes those who wait for a condition."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Event], None]] = []
        self._waiters: set[asyncio.Future[None]] = set()

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event from now on, in order."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Pass `event` on."""
        for listener in self._listeners:
            listener(event)
        self.wake()

    def wake(self) -> None:
        """Let every waiting condition be looked at again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, condition: Callable[[], T], timeout: float = 10) -> T:  # noqa: ASYNC109
        """Return the first truthy value of `condition`, looked at after each event.

        Raises TimeoutError after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while not (value := condition()):
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)
            return value
