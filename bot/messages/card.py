"""The card: a message as data, what it shows, and the controls that the cogs answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import discord

from bot.messages.discord_limits import ROW_BUTTONS
from bot.messages.more import more_menu
from bot.messages.upload import Upload
from bot.words import _, mark


@dataclass(frozen=True, slots=True)
class Button:
    """A button whose `custom_id` is `action:job id`; the cogs' dynamic items answer it.

    With a `position` it is about that picture of the job, whatever the card is about.
    """

    action: str
    label: str
    emoji: str | None
    style: discord.ButtonStyle = discord.ButtonStyle.secondary
    position: int | None = None


CANCEL: Final = Button("cancel", mark("Cancel"), "🛑", discord.ButtonStyle.danger)
REROLL: Final = Button("reroll", mark("Reroll"), "🔁")
RETRY: Final = Button("reroll", mark("Try again"), "🔁")
VARY: Final = Button("vary", mark("Vary"), "🎨")
# What is called Remix was Edit in earlier versions, under whose pictures its ids still stand.
REMIX: Final = Button("edit", mark("Remix"), "🔀")
EDIT: Final = Button("instruct", mark("Edit"), "✏️")
UPSCALE: Final = Button("upscale", mark("Upscale"), "⬆️")
DETAILS: Final = Button("details", mark("Details"), "ℹ️")
DELETE: Final = Button("delete", mark("Delete"), "🗑️")
# Under one picture of a batch: it takes the message away, and the batch stays.
REMOVE: Final = Button("delete", mark("Remove"), "🗑️")
POST: Final = Button("post", mark("Post here"), "📣")
FINISH: Final = Button("finish", mark("Finish"), "✨")


@dataclass(frozen=True, slots=True)
class Card:
    """What a message shows; files are built afresh from `uploads` for every attempt to send.

    `prompt` and `status` are markdown that is safe, "" where there is none; `byline` is one line
    that is shown small: whose it is, and what. `target` is what the controls are about: the job's
    id, or `job id.position` for one picture of it. `rows` are further controls above the buttons,
    one row each: those of a grid's pictures. `more` is what the menu "More" offers.
    """

    job_id: str
    colour: discord.Colour
    status: str = ""
    prompt: str = ""
    byline: str = ""
    buttons: tuple[Button, ...] = ()
    uploads: tuple[Upload, ...] = field(default=(), repr=False)
    answer: bool = False
    """Whether this is the job's one answer, and not news on the way to it."""
    rows: tuple[tuple[Button, ...], ...] = ()
    position: int | None = None
    more: tuple[str, ...] = ()
    mention: int | None = None
    """The user whom a line above it mentions, of a message that was posted with one."""

    @property
    def target(self) -> str:
        """What the controls are about."""
        return self.job_id if self.position is None else f"{self.job_id}.{self.position}"

    @property
    def said(self) -> str:
        """What is said below the prompt: the status, and the line about whose it is."""
        small = [f"-# {self.byline}"] if self.byline else []
        return "\n".join([*([self.status] if self.status else []), *small])

    def controls(self) -> list[list[discord.ui.Item[Any]]]:
        """Return new buttons and menus, row by row."""
        firsts = range(0, len(self.buttons), ROW_BUTTONS)
        own = [self.buttons[first : first + ROW_BUTTONS] for first in firsts]
        rows: list[list[discord.ui.Item[Any]]] = [
            [self._control(button) for button in row] for row in (*self.rows, *own)
        ]
        return [*rows, *([[more_menu(self.target, self.more)]] if self.more else [])]

    def _control(self, button: Button) -> discord.ui.Button[Any]:
        own = button.position is not None
        target = f"{self.job_id}.{button.position}" if own else self.target
        return discord.ui.Button(
            style=button.style,
            label=_(button.label),
            emoji=button.emoji,
            custom_id=f"{button.action}:{target}",
        )

    def custom_ids(self) -> set[str]:
        """Return the ids of the buttons about the whole card, by which its message is known."""
        return {f"{button.action}:{self.target}" for button in self.buttons}

    def files(self) -> list[discord.File]:
        """Return new `discord.File`s: one that was sent once would upload nothing again."""
        return [upload.file() for upload in self.uploads]
