"""Where in a server a channel stands: a thread in its channel, that in its category."""

from __future__ import annotations

from typing import Any

import discord


def parent_of(channel: Any) -> int | None:
    """Return the id of the channel or forum that a thread or post belongs to."""
    return channel.parent_id if isinstance(channel, discord.Thread) else None


def category_of(channel: Any) -> int | None:
    """Return the id of the category that a channel, or a thread's channel, stands in."""
    if isinstance(channel, discord.Thread):
        channel = channel.parent
    found = getattr(channel, "category_id", None)
    return found if isinstance(found, int) else None
