"""Options of commands that depend on the settings: what cannot be chosen is not shown."""

from __future__ import annotations

from typing import Any

from discord import app_commands


def leave_out(command: app_commands.Command[Any, ..., Any], option: str) -> None:
    """Register a cog's command without one of its options, whose default then always counts.

    `command` has to be of a cog's instance, not of its class: each instance has a copy.
    """
    # discord.py makes the options from the signature alone, and has no public way to hide one.
    command._params.pop(option)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
