"""Options of commands that depend on the settings: what cannot be chosen is not shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discord import app_commands

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import short_name
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES


def leave_out(command: app_commands.Command[Any, ..., Any], option: str) -> None:
    """Register a cog's command without one of its options, whose default then always counts.

    `command` has to be of a cog's instance, not of its class: each instance has a copy.
    """
    # discord.py makes the options from the signature alone, and has no public way to hide one.
    command._params.pop(option)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def model_choices(models: Iterable[ModelSpec], current: str) -> list[app_commands.Choice[str]]:
    """Return the completions of an option that names one of the models."""
    wanted = "-".join(current.split()).casefold()
    return [
        app_commands.Choice(name=short_name(spec.name)[:CHOICE_LENGTH], value=spec.name)
        for spec in models
        if wanted in spec.name.casefold()
    ][:CHOICES]
