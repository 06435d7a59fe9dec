"""The one sanitiser: user text becomes text that pings nobody and breaks no layout."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable
from typing import Final

from bot.words import _, ngettext

ZERO_WIDTH_SPACE: Final = "\u200b"
# Marks that reorder or hide the text around them.
_HIDDEN: Final = re.compile(
    "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)
_SPECIAL: Final = re.compile(r"([\\`*_~|<>\[\]()])")
_LINE_START: Final = re.compile(r"^(\s*)(#{1,3}(?=\s)|-#|[-+](?=\s))", re.MULTILINE)
_NUMBERED: Final = re.compile(r"^(\s*\d+)\.(?=\s)", re.MULTILINE)
_BLANK_LINES: Final = re.compile(r"\n\s*\n(\s*\n)+")
_MARKS_IN_A_ROW: Final = 4
_LINES: Final = 30
_SOON_S: Final = 60
_HOUR_MIN: Final = 60
_DAY_H: Final = 24
_TODAY_S: Final = 12 * 3600


def _limit_marks(text: str) -> str:
    """Drop combining marks after the fourth in a row (stacked marks paint over other messages)."""
    kept: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        if run <= _MARKS_IN_A_ROW:
            kept.append(character)
    return "".join(kept)


def shorten(text: str, limit: int) -> str:
    """Cut `text` to at most `limit` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def tidied(text: str, limit: int) -> str:
    """Return `text` without what hides or paints over its neighbours, at most 30 lines of it."""
    text = _BLANK_LINES.sub("\n\n", _limit_marks(_HIDDEN.sub("", text)))
    *lines, rest = text.split("\n", _LINES)
    if len(lines) == _LINES and rest:  # A thousand short lines would fill many screens.
        text = "\n".join(lines) + "…"
    return shorten(text, limit)


def safe(text: str, limit: int = 1000) -> str:
    """Return `text` as inert Discord markdown of at most about twice `limit` characters.

    Mentions, markdown, masked and bare links, headings and lists are shown as typed; bidirectional
    and invisible marks and all past 30 lines are dropped; `limit` counts the characters of the
    user's own text.
    """
    text = _SPECIAL.sub(r"\\\1", tidied(text, limit))
    text = _LINE_START.sub(lambda match: f"{match[1]}\\{match[2]}", text)
    text = _NUMBERED.sub(r"\1\\.", text)
    text = text.replace("@", f"@{ZERO_WIDTH_SPACE}")
    return text.replace("://", f":{ZERO_WIDTH_SPACE}//")


def relative(at: float) -> str:
    """Return a Unix time in seconds as a mark that Discord shows as "in 5 minutes"."""
    return f"<t:{at:.0f}:R>"


def message_url(guild_id: int | None, channel_id: int | None, message_id: int | None) -> str:
    """Return the address of a message; outside of servers its guild is None."""
    return f"https://discord.com/channels/{guild_id or '@me'}/{channel_id}/{message_id}"


def expected(at: float, now: float | None = None) -> str | None:
    """Return when something is expected (Unix seconds) as Discord's mark of a time of day.

    None stands for any moment: within a minute, or later than was thought. A relative mark would
    count on, to "4 seconds ago" of what has not begun, under whoever reads it.
    """
    left = at - (time.time() if now is None else now)
    if left < _SOON_S:
        return None
    return f"<t:{at:.0f}:{'t' if left < _TODAY_S else 'f'}>"


def ago(seconds: float) -> str:
    """Return how long ago something was, where Discord's marks of time are not read (choices)."""
    minutes = max(0, int(seconds // 60))
    if minutes < _HOUR_MIN:
        return _("{count} min ago").format(count=minutes)
    hours = minutes // 60
    if hours < _DAY_H:
        return _("{count} h ago").format(count=hours)
    days = hours // 24
    return ngettext("{count} day ago", "{count} days ago", days).format(count=days)


def plain(text: str, limit: int) -> str:
    """Return `text` as one line for places that know no markdown (alt text)."""
    return shorten(" ".join(_limit_marks(_HIDDEN.sub("", text)).split()), limit)


def roles_named(role_ids: Iterable[int], guild_id: int | None = None) -> str:
    """Return mentions of a server's roles, in a list; such a mention shows the role's name."""
    # The role of everyone has the server's id, and Discord shows no name for it.
    return ", ".join("@everyone" if id_ == guild_id else f"<@&{id_}>" for id_ in role_ids)
