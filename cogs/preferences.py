"""`/settings`: one's own defaults, and the controls that server admins see too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.client.answers import reply_privately
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.client.forms import Form, FormValues, text_field
from bot.client.settings import panel, show_panel
from bot.messages.settings_panel import UNSET
from bot.rules.preferences import Defaults
from bot.words import _, mark, speak

_CONTROL: Final = r"prefs:(?P<scope>user|guild):(?P<what>\w+)"

_PAGES: Final = {"language": "language", "more": "more", "back": None}


async def change(
    interaction: discord.Interaction[Any], bot: ImageBot, scope: str, changes: dict[str, Any]
) -> None:
    """Store settings of the user or, for its admins, of the server; raises `NotAllowed`."""
    preferences = bot.services.preferences
    if scope == "user":
        await preferences.set_user(interaction.user.id, changes)
        if changes.get("language"):
            speak(changes["language"])
        return
    guild_id = await bot.permissions.moderated_server(interaction)
    await preferences.set_guild(guild_id, changes, by=interaction.user.id)


class NegativeForm(Form, name="negative"):
    """What pictures should not show by default. The state is the scope."""

    def __init__(self, state: str = "", negative: str = "") -> None:
        super().__init__(state)
        self._negative = negative

    @override
    def title(self) -> str:
        return _("Negative prompt")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        about = _("Leave it empty to set nothing.")
        return [
            text_field(
                "negative", _("Negative prompt"), self._negative, required=False, about=about
            )
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        text = values.texts.get("negative", "").strip()
        await change(interaction, bot, self.state, {"negative": text or None})
        await reply_privately(interaction, _("Saved."))


class PreferenceMenu(Control, template=_CONTROL):
    """Sets one default."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        scope, what, value = self.state["scope"], self.state["what"], self.chosen[0]
        read = int if what == "count" else str
        changes = {what: None if value == UNSET else read(value)}
        await change(interaction, bot, scope, changes)
        await show_panel(interaction, bot, scope)


class PreferenceButton(Control, template=_CONTROL.replace("prefs", "pref")):
    """Turns private on, off and back to not set, opens the form or a menu, or resets all."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        scope, what = self.state["scope"], self.state["what"]
        if scope == "guild":
            await bot.permissions.moderated_server(interaction)
        now = (await panel(interaction, bot, scope)).defaults
        if what == "negative":
            await NegativeForm(scope, now.negative or "").open(interaction)
            return
        if what in _PAGES:
            await show_panel(interaction, bot, scope, asks=_PAGES[what])
            return
        if what == "private":
            following: dict[bool | None, bool | None] = {None: True, True: False, False: None}
            changes: dict[str, Any] = {"private": following[now.private]}
        else:
            changes = dict.fromkeys(one.name for one in fields(Defaults))
        await change(interaction, bot, scope, changes)
        await show_panel(interaction, bot, scope)


class PreferenceCommands(commands.Cog):
    """One's own defaults."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Choose your own defaults and language."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    async def settings(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Show the user's settings, privately."""
        await show_panel(interaction, self.bot, "user")


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    bot.add_dynamic_items(PreferenceMenu, PreferenceButton)
    await bot.add_cog(PreferenceCommands(bot))
