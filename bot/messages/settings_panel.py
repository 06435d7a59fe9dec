"""The settings of a user or a server as a message with menus and buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import discord

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import named, short_name
from bot.catalogue.styles import NAME_LIMIT, Style, offered_styles
from bot.catalogue.writers import writer
from bot.domain.request import COUNT_MAX
from bot.domain.writing import Enhance
from bot.jobs.chosen_model import Models
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.names import ENHANCE_NAMES, NOTICE_NAMES
from bot.messages.text import safe
from bot.rules.notice import USUAL
from bot.rules.preferences import Defaults
from bot.words import LANGUAGES, _, mark, ngettext

# Longer than any name that a style can have.
UNSET: Final = "-" * (NAME_LIMIT + 1)
_NEGATIVE_SHOWN: Final = 300
_TITLES: Final = {"user": mark("Your settings"), "guild": mark("This server's settings")}


def _pictures(count: int) -> str:
    return ngettext("{count} picture", "{count} pictures", count).format(count=count)


@dataclass(frozen=True, slots=True)
class Panel:
    """The panel of a `scope`, "user" or "guild".

    The `custom_id` of a menu is `prefs:scope:what`, that of a button `pref:scope:what`.
    """

    scope: str
    models: Models
    defaults: Defaults
    shared: Defaults
    """A server's defaults, where those of a user are shown; they come after the user's own."""
    model: ModelSpec
    """The model that draws, with what it has where nothing is set."""
    styles: Sequence[Style]
    aspects: Mapping[str, str]
    qualities: Mapping[str, str]
    asks: str | None = None
    """What has a page of its own, "language" or "more": a message has no room for a sixth row."""

    def embed(self) -> discord.Embed:
        """Return what counts, and where it comes from if it is not set here."""
        rows = [
            *([(_("Model"), self._model_shown())] if self.models.several else []),
            (_("Shape"), self._counts("aspect")),
            (_("Quality"), self._counts("quality")),
            (_("Style"), self._counts("style")),
            (_("Pictures"), self._counts("count")),
            (_("Private"), self._counts("private")),
            (_("Negative prompt"), self._counts("negative")),
            (_("After a long wait"), self._counts("notice")),
            *([(_("Prompts"), self._counts("enhance"))] if self._writes() else []),
        ]
        if self.scope == "user":
            own = LANGUAGES.get(self.defaults.language or "")
            rows.append((_("Language"), own or _("that of your Discord")))
        embed = discord.Embed(title=_(_TITLES[self.scope]), colour=discord.Colour(0x5865F2))
        embed.description = linked(_("These count where /imagine names nothing else."))
        for name, value in rows:
            embed.add_field(name=name, value=value, inline=True)
        return embed

    def _counts(self, what: str) -> str:
        """Return the value of a setting that counts."""
        if (own := self._said(what, self.defaults)) is not None:
            return own
        if (shared := self._said(what, self.shared)) is not None:
            return _("{value} (the server's)").format(value=shared)
        spec = self.model
        usual = Defaults(
            aspect=spec.default_aspect,
            quality=spec.default_quality,
            count=1,
            private=False,
            notice=USUAL,
            enhance=Enhance.OFF,
        )
        return _("{value} (the bot's)").format(value=self._said(what, usual) or _("none"))

    def _said(self, what: str, defaults: Defaults) -> str | None:
        """Return how a value reads; None where it is not set, or not known any more."""
        value = getattr(defaults, what)
        if value is None:
            return None
        if what in {"aspect", "quality"}:
            names = self.aspects if what == "aspect" else self.qualities
            return _(names[value]) if value in names else None
        if what == "style":
            return safe(next((s.title for s in self._styles() if s.name == value), value), 100)
        if what == "count":
            return _pictures(value)
        if what == "notice":
            return _(NOTICE_NAMES[value])
        if what == "enhance":
            return _(ENHANCE_NAMES[value])
        if what == "private":
            return _("yes") if value else _("no")
        return safe(value, _NEGATIVE_SHOWN)

    def view(self) -> discord.ui.View:
        """Return the controls; stopped, since a cog answers them."""
        view = discord.ui.View(timeout=None)
        language = self._menu("language", _("Language"), LANGUAGES)
        if self.asks is not None:
            counts = {str(n): _pictures(n) for n in range(1, COUNT_MAX + 1)}
            notices = {value: _(name) for value, name in NOTICE_NAMES.items()}
            more = [
                self._menu("count", _("Pictures"), counts),
                self._menu("notice", _("After a long wait"), notices),
            ]
            if self._writes():
                names = {mode: _(name) for mode, name in ENHANCE_NAMES.items()}
                more.append(self._menu("enhance", _("Prompts"), names))
            for menu in [language] if self.asks == "language" else more:
                view.add_item(menu)
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
            None: _("Make private"),
            True: _("Make public"),
            False: _("Private: as usual"),
        }[self.defaults.private]
        for what, label, emoji in (
            ("private", private, "👁️"),
            ("negative", _("Negative prompt"), "🚫"),
            ("more", _("More"), "⚙️"),
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
            origin = _("{value} (the server's)") if self.shared.model else _("{value} (the bot's)")
            return origin.format(value=safe(short_name(self.model.name), 100))
        shown = safe(short_name(name), 100)
        if named(self.models.offered, name) is None:
            return _("{model}, which is no longer offered").format(model=shown)
        if named(self._models(), name) is None:
            return _("{model}, which you may not use here").format(model=shown)
        return shown

    def _writes(self) -> bool:
        """Tell whether any of the models that count here rewrites prompts."""
        return writer(self._models()) is not None

    def _sizes(self) -> dict[str, str]:
        known = {aspect for spec in self.models.offered for aspect in spec.sizes}
        return {k: v for k, v in self.aspects.items() if k in known}

    def _styles(self) -> list[Style]:
        return offered_styles(self.styles, self.defaults.style, CHOICES - 1)

    def _menu(self, what: str, title: str, choices: Mapping[str, str]) -> discord.ui.Select[Any]:
        current = getattr(self.defaults, what)
        current = None if current is None else str(current)
        options = [
            discord.SelectOption(label=_("{what}: as usual").format(what=title), value=UNSET)
        ]
        options += [
            discord.SelectOption(
                label=f"{title}: {label}"[:CHOICE_LENGTH], value=value, default=value == current
            )
            for value, label in choices.items()
        ]
        return discord.ui.Select(
            custom_id=f"prefs:{self.scope}:{what}", placeholder=title, options=options
        )
