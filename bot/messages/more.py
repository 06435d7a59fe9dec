"""The menu "More" under a picture: what is done more seldom than what has a button."""

from __future__ import annotations

from typing import Any, Final

import discord

from bot.catalogue.models import MODELS
from bot.domain.job import Job
from bot.words import _, mark

UNDO: Final = "undo"
_AROUND: Final = {
    "zoom15": (mark("Zoom out 1.5x"), "🔭"),
    "zoom20": (mark("Zoom out 2x"), "🔭"),
    "square": (mark("Make square"), "⬜"),
    "wide": (mark("Make wide"), "🖥️"),
    "tall": (mark("Make tall"), "📱"),
    "panleft": (mark("Pan left"), "⬅️"),
    "panright": (mark("Pan right"), "➡️"),
    "panup": (mark("Pan up"), "⬆️"),
    "pandown": (mark("Pan down"), "⬇️"),
}
"""By the names of `bot.jobs.widen`: its zooms, its shapes, its pans."""
_CHOICES: Final = {**_AROUND, UNDO: (mark("Undo: the step before"), "↩️")}


def more_of(job: Job, *, single: bool) -> tuple[str, ...]:
    """Return what can be done besides with a job's picture; `single`: it is the only one shown."""
    model = MODELS.get(job.model or "")
    around = _AROUND if single and model is not None and model.streamed else ()
    return (*around, *((UNDO,) if job.parent_id else ()))


def more_menu(target: str, choices: tuple[str, ...]) -> discord.ui.Select[Any]:
    """Return the menu about a target, as buttons name it."""
    options = [
        discord.SelectOption(label=_(label), value=name, emoji=emoji)
        for name, (label, emoji) in _CHOICES.items()
        if name in choices
    ]
    return discord.ui.Select(custom_id=f"more:{target}", placeholder=_("More"), options=options)
