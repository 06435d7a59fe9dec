"""The settings of a user or a server as a message with menus and buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import discord

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import named, short_name
from bot.catalogue.styles import BUILT_IN, NAME_LIMIT, Style
from bot.jobs.chosen_model import Models
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.text import safe
from bot.rules.preferences import Defaults
from bot.words import LANGUAGES, _, mark

# Longer than any name that a style can have.
UNSET: Final = "-" * (NAME_LIMIT + 1)
_NEGATIVE_SHOWN: Final = 300
_TITLES: Final = {"user": mark("Your settings"), "guild": mark("This server's settings")}


@dataclass(frozen=True, slots=True)
class Panel:
    """The panel of a `scope`, "user" or "guild".

    The `custom_id` of a menu is `prefs:scope:what`, that of a button `pref:scope:what`.
    """

    scope: str
    models: Models
    defaults: Defaults
    styles: Sequence[Style]
    aspects: Mapping[str, str]
    qualities: Mapping[str, str]
    asks_language: bool = False
    """Whether it asks for the language alone: a message has no room for a sixth row."""

    def embed(self) -> discord.Embed:
        """Return what is set now."""
        defaults = self.defaults
        unset = _("not set")
        style = next((s.title for s in self._styles() if s.name == defaults.style), defaults.style)
        private = {None: unset, True: _("yes"), False: _("no")}[defaults.private]
        rows = [
            *([(_("Model"), self._model_shown())] if self.models.several else []),
            (_("Shape"), _(self.aspects.get(defaults.aspect or "", "")) or unset),
            (_("Quality"), _(self.qualities.get(defaults.quality or "", "")) or unset),
            (_("Style"), safe(style, 100) if style else unset),
            (_("Private"), private),
            (
                _("Not to show"),
                safe(defaults.negative, _NEGATIVE_SHOWN) if defaults.negative else unset,
            ),
        ]
        if self.scope == "user":
            rows.append((_("Language"), LANGUAGES.get(defaults.language or "", unset)))
        embed = discord.Embed(title=_(_TITLES[self.scope]), colour=discord.Colour(0x5865F2))
        embed.description = _("These count where /imagine names nothing else.")
        for name, value in rows:
            embed.add_field(name=name, value=value, inline=True)
        return embed

    def view(self) -> discord.ui.View:
        """Return the controls; stopped, since a cog answers them."""
        view = discord.ui.View(timeout=None)
        language = self._menu("language", _("Language"), LANGUAGES)
        if self.asks_language:
            view.add_item(language)
            view.add_item(self._button("back", _("Back"), "◀️"))
            view.stop()
            return view
        several = self.models.several
        if several:
            names = {spec.name: short_name(spec.name) for spec in self._models()}
            view.add_item(self._menu("model", _("Model"), names))
        view.add_item(self._menu("aspect", _("Shape"), {k: _(v) for k, v in self._sizes().items()}))
        view.add_item(
            self._menu("quality", _("Quality"), {k: _(v) for k, v in self.qualities.items()})
        )
        view.add_item(self._menu("style", _("Style"), {s.name: s.title for s in self._styles()}))
        if self.scope == "user" and not several:
            view.add_item(language)
        private = {
            None: _("Private: on"),
            True: _("Private: off"),
            False: _("Private: not set"),
        }[self.defaults.private]
        for what, label, emoji in (
            ("private", private, "👁️"),
            ("negative", _("Not to show"), "🚫"),
            ("reset", _("Reset all"), "♻️"),
        ):
            view.add_item(self._button(what, label, emoji))
        if self.scope == "user" and several:
            view.add_item(self._button("language", _("Language"), "🌐"))
        view.stop()
        return view

    def _button(self, what: str, label: str, emoji: str) -> discord.ui.Button[discord.ui.View]:
        return discord.ui.Button(
            label=label, emoji=emoji, custom_id=f"pref:{self.scope}:{what}", row=4
        )

    def _models(self) -> tuple[ModelSpec, ...]:
        """Return what may be set: a server's default counts for those who may use it."""
        return self.models.offered if self.scope == "guild" else self.models.allowed

    def _model_shown(self) -> str:
        name = self.defaults.model
        if not name:
            return _("not set")
        shown = safe(short_name(name), 100)
        if named(self.models.offered, name) is None:
            return _("{model}, which is no longer offered").format(model=shown)
        if named(self._models(), name) is None:
            return _("{model}, which you may not use here").format(model=shown)
        return shown

    def _sizes(self) -> dict[str, str]:
        known = {aspect for spec in self.models.offered for aspect in spec.sizes}
        return {k: v for k, v in self.aspects.items() if k in known}

    def _styles(self) -> list[Style]:
        """Return what the menu has room for: the one that is set before other own ones."""
        room = CHOICES - 1
        own = [style for style in self.styles if style.name == self.defaults.style]
        own += [style for style in self.styles if style not in own]
        return [*own[: room - len(BUILT_IN)], *BUILT_IN]

    def _menu(self, what: str, title: str, choices: Mapping[str, str]) -> discord.ui.Select[Any]:
        current = getattr(self.defaults, what)
        options = [discord.SelectOption(label=_("{what}: not set").format(what=title), value=UNSET)]
        options += [
            discord.SelectOption(
                label=f"{title}: {label}"[:CHOICE_LENGTH], value=value, default=value == current
            )
            for value, label in choices.items()
        ]
        return discord.ui.Select(
            custom_id=f"prefs:{self.scope}:{what}", placeholder=title, options=options
        )
