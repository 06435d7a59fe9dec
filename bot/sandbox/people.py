"""People of the sandbox, for tests and the demo: they act at once and wait on events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.sandbox import actions
from bot.sandbox.errors import Json
from bot.sandbox.model import (
    Callback,
    Channel,
    Interaction,
    Message,
    Modal,
    Progress,
    User,
)
from bot.sandbox.permissions import can_see
from bot.sandbox.uploads import Upload
from bot.sandbox.world import World

WAIT_SECONDS = 30.0
Place = str | int | Channel


class NoResponse(Exception):
    """The bot did not answer an interaction in time; the text is what the user sees."""


@dataclass(frozen=True, slots=True)
class Response:
    """The first response: a message, a deferral (`message.thinking`), an update or a form."""

    kind: Callback
    message: Message | None
    modal: Modal | None

    @property
    def deferred(self) -> bool:
        """The bot asked for more time."""
        return self.kind in (Callback.DEFERRED_MESSAGE, Callback.DEFERRED_UPDATE)


class Invocation:
    """Something that a user did, and what the bot makes of it."""

    def __init__(self, world: World, interaction: Interaction) -> None:
        self._world = world
        self.interaction = interaction

    @property
    def message(self) -> Message | None:
        """The answer as it stands now (for a click with an update: the clicked message).

        Where that was deleted, the newest message there whose controls are about the same thing.
        """
        original = self.interaction.original
        if original is None or not original.deleted:
            return original
        about = _about(original)
        newest_first = reversed(original.channel.messages.values())
        return next((m for m in newest_first if not m.deleted and about & _about(m)), None)

    @property
    def followups(self) -> list[Message]:
        """The further messages of the bot that still exist."""
        return [message for message in self.interaction.followups if not message.deleted]

    async def response(self, timeout: float = WAIT_SECONDS) -> Response:  # noqa: ASYNC109
        """Return the first response; raise `NoResponse` when the user is told of none."""
        interaction = self.interaction
        done = lambda: interaction.progress is not Progress.PENDING  # noqa: E731
        await self._world.events.wait(done, timeout)
        if interaction.callback is None:
            raise NoResponse(interaction.failure)
        return Response(interaction.callback, interaction.original, interaction.modal)

    async def until(
        self,
        condition: Callable[[Message], object],
        timeout: float = WAIT_SECONDS,  # noqa: ASYNC109
    ) -> Message:
        """Return the answer once it meets `condition`; raise TimeoutError if it never does."""

        def met() -> Message | None:
            message = self.message
            return message if message is not None and condition(message) else None

        found = await self._world.events.wait(met, timeout)
        if found is None:
            raise TimeoutError
        return found

    async def answer(self, timeout: float = WAIT_SECONDS) -> Message:  # noqa: ASYNC109
        """Return the answer once the bot has responded and no longer thinks.

        What a deferral hides is waited for, so that a slow machine reads the same answer. Raises
        `NoResponse` when the user is told of none.
        """
        await self.response(timeout)
        return await self.until(lambda message: not message.thinking, timeout)


def _about(message: Message) -> set[str]:
    """Return what the `custom_id`s of a message name behind their first colon."""
    named = {str(item.get("custom_id")).partition(":")[2] for item in message.controls}
    return named - {""}


class Person:
    """One user's hands and eyes. Channels are given by name, id or object; "dm" is the bot's DM."""

    def __init__(self, world: World, user: User) -> None:
        self._world = world
        self.user = user

    @property
    def id(self) -> int:
        """The user's id."""
        return self.user.id

    async def slash(
        self, channel: Place, command: str, *, force: bool = False, **options: Any
    ) -> Invocation:
        """Run a slash command ("imagine", "admin queue"); a file option is `(name, bytes)`.

        Raises `Refusal` where Discord's client would not send it; `force` skips only the
        question whether the command is offered to this user here.
        """
        place = self.place(channel)
        interaction = actions.run_command(
            self._world, self.user, place, command, options, force=force
        )
        return Invocation(self._world, interaction)

    async def context_menu(
        self, channel: Place, command: str, target: Message | User, *, force: bool = False
    ) -> Invocation:
        """Run a context menu command on a message or a user."""
        interaction = actions.run_command(
            self._world,
            self.user,
            self.place(channel),
            command,
            {},
            target_id=target.id,
            force=force,
        )
        return Invocation(self._world, interaction)

    async def autocomplete(
        self, channel: Place, command: str, focused: str, **options: Any
    ) -> list[Json]:
        """Return the choices that the bot offers for the option `focused`."""
        interaction = actions.complete(
            self._world, self.user, self.place(channel), command, options, focused
        )
        await Invocation(self._world, interaction).response()
        return interaction.choices or []

    async def press(self, message: Message, button: str) -> Invocation:
        """Press a button by custom id or label."""
        interaction = actions.use_control(self._world, self.user, message, button)
        return Invocation(self._world, interaction)

    async def select(self, message: Message, menu: str, *values: str) -> Invocation:
        """Choose values in a menu, named by its custom id."""
        interaction = actions.use_control(self._world, self.user, message, menu, values)
        return Invocation(self._world, interaction)

    async def submit_modal(self, source: Invocation, values: Mapping[str, Any]) -> Invocation:
        """Send the form that answered `source`; files are lists of `(name, bytes)`."""
        interaction = actions.submit_form(self._world, self.user, source.interaction, values)
        return Invocation(self._world, interaction)

    async def send(
        self,
        channel: Place,
        text: str,
        files: Sequence[tuple[str, bytes]] = (),
        *,
        reply_to: Message | None = None,
    ) -> Message:
        """Write a message."""
        uploads = [Upload(index, name, data, len(data)) for index, (name, data) in enumerate(files)]
        source = None if reply_to is None else reply_to.id
        place = self.place(channel)
        return actions.write(self._world, self.user, place, text, uploads, reply_to=source)

    async def forward(self, message: Message, channel: Place) -> Message:
        """Forward a message into a channel."""
        return actions.forward(self._world, self.user, message, self.place(channel))

    def messages(self, channel: Place) -> list[Message]:
        """Return the messages that this user sees in a channel, oldest first."""
        place = self.place(channel)
        if not can_see(self.user, place):
            return []
        return [m for m in place.messages.values() if self._world.sees(self.user, m)]

    def place(self, channel: Place) -> Channel:
        """Return a channel as this user names it."""
        if channel == "dm":
            return self._world.dm(self.user)
        return self._world.channel(channel)
