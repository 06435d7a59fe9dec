"""The card: a message as data, what it shows, and the controls that the cogs answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import discord

from bot.messages.discord_limits import ROW_BUTTONS
from bot.messages.upload import Upload
from bot.words import _, mark

# What fits on a phone.
_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Button:
    """A button whose `custom_id` is `action:job id`; the cogs' dynamic items answer it."""

    action: str
    label: str
    emoji: str
    style: discord.ButtonStyle = discord.ButtonStyle.secondary


CANCEL: Final = Button("cancel", mark("Cancel"), "🛑", discord.ButtonStyle.danger)
REROLL: Final = Button("reroll", mark("Reroll"), "🔁")
RETRY: Final = Button("reroll", mark("Try again"), "🔁")
VARY: Final = Button("vary", mark("Vary"), "🎨")
EDIT: Final = Button("edit", mark("Edit"), "✏️")
UPSCALE: Final = Button("upscale", mark("Upscale"), "⬆️")
DETAILS: Final = Button("details", mark("Details"), "ℹ️")
DELETE: Final = Button("delete", mark("Delete"), "🗑️")


@dataclass(frozen=True, slots=True)
class Card:
    """What a message shows; files are built afresh from `uploads` for every attempt to send.

    `target` is what the controls are about: the job's id, or `job id.position` for one picture of
    it. `picks` pictures can be taken out by a menu.
    """

    job_id: str
    embed: discord.Embed
    buttons: tuple[Button, ...] = ()
    uploads: tuple[Upload, ...] = field(default=(), repr=False)
    answer: bool = False
    """Whether this is the job's one answer, and not news on the way to it."""
    picks: int = 0
    position: int | None = None

    @property
    def target(self) -> str:
        """What the controls are about."""
        return self.job_id if self.position is None else f"{self.job_id}.{self.position}"

    def view(self) -> discord.ui.View:
        """Return the controls; stopped, so that discord.py does not keep the view in memory."""
        view = discord.ui.View(timeout=None)
        if self.picks:
            view.add_item(self._pick_menu())
        for number, button in enumerate(self.buttons):
            view.add_item(
                discord.ui.Button[discord.ui.View](
                    style=button.style,
                    label=_(button.label),
                    emoji=button.emoji,
                    custom_id=f"{button.action}:{self.target}",
                    row=number // (_ROW if len(self.buttons) > ROW_BUTTONS else ROW_BUTTONS)
                    + bool(self.picks),
                )
            )
        view.stop()
        return view

    def _pick_menu(self) -> discord.ui.Select[Any]:
        options = [
            discord.SelectOption(
                label=_("Picture {number}").format(number=number + 1), value=str(number)
            )
            for number in range(self.picks)
        ]
        return discord.ui.Select(
            custom_id=f"pick:{self.target}",
            placeholder=_("Take one out"),
            options=options,
            row=0,
        )

    def custom_ids(self) -> set[str]:
        """Return the buttons' ids."""
        return {f"{button.action}:{self.target}" for button in self.buttons}

    def files(self) -> list[discord.File]:
        """Return new `discord.File`s: one that was sent once would upload nothing again."""
        return [upload.file() for upload in self.uploads]
