"""The cogs: every module and package of the cogs package, found by itself and loaded by name."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from discord.ext import commands

from bot.errors import StartupError

_PACKAGE: Final = "cogs"


def extension_names() -> list[str]:
    """Return the full module names of the cogs, in the order of the alphabet.

    Raises `StartupError` where there are none: without commands, the sync would delete them all.
    """
    spec = find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    names = sorted(f"{_PACKAGE}.{found.name}" for found in pkgutil.iter_modules(folders or ()))
    if not names:
        raise StartupError("The package cogs, which has the bot's commands, is missing or empty.")
    return names


async def load_extensions(bot: commands.Bot, loaded: set[str]) -> None:
    """Load the cogs that are not among the `loaded`, to which their names are added.

    Each is imported once in a process and added by its `setup`: discord.py's own way runs its code
    anew for each bot, so that it can be loaded again, which this one never does.
    Their order decides nothing: no two answer the same `custom_id`, and each listens for itself.
    Raises `StartupError` for one without `setup`, and where there are none.
    """
    for name in extension_names():
        # A login that failed half-way is tried again.
        if name in loaded:
            continue
        setup = getattr(import_module(name), "setup", None)
        if setup is None:
            raise StartupError(f"The cog {name} has no function setup(bot).")
        await setup(bot)
        loaded.add(name)
