"""The form of `/compose`: a prompt of many lines, menus for what is chosen most often, a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self

import discord
from typing_extensions import override

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import short_name
from bot.catalogue.styles import Style, find_style
from bot.client.asking import accept_wish, compose_here
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.forms import Form, FormValues, menu_field, text_field, unreadable
from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest
from bot.jobs.compose import DEFAULT_STRENGTH, Asked
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.names import ASPECT_NAMES, QUALITY_NAMES
from bot.words import _

# What the form has no field for: its state.
_KEPT: Final = (
    *("count", "seed", "steps", "guidance", "private", "lora", "lora_strength"),
    *("transparent", "draft", "negative", "strength", "enhance"),
)
_NO_STYLE: Final = "none"
_SEPARATOR: Final = "|"


@dataclass(frozen=True, slots=True)
class Offered:
    """What the menus of the form offer, and what counts where nothing is chosen in them."""

    models: Sequence[ModelSpec]
    """Those that may be used, if there are several."""
    spec: ModelSpec
    styles: Sequence[Style]
    chosen: Asked
    usual: ImageRequest


class ComposeForm(Form, name="compose"):
    """A prompt of many lines, a picture to start from, and what is chosen most often.

    The state is JSON of the other options that were given to the command. A form has five fields at
    most, so that model and quality share one where there are several models.
    """

    def __init__(self, state: str = "", offered: Offered | None = None) -> None:
        super().__init__(state)
        self._offered = offered

    @classmethod
    def about(cls, asked: Asked, offered: Offered) -> Self:
        """Return a form that remembers what was asked."""
        values = {name: getattr(asked, name) for name in _KEPT}
        given = {name: value for name, value in values.items() if value is not None}
        if not asked.draft:
            del given["draft"]
        text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
        return cls(text if given else "", offered)

    @override
    def title(self) -> str:
        return _("A new picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        offered = self._offered
        if offered is None:
            raise ValueError("only a form that was made by `about` can be shown")
        usual, chosen = offered.usual, offered.chosen
        shapes = {k: _(v) for k, v in ASPECT_NAMES.items() if k in _shapes(offered)}
        looks = {_NO_STYLE: _("No style")}
        looks |= {style.name: style.title for style in offered.styles}
        style = find_style(chosen.style, offered.styles) if chosen.style else None
        look = _NO_STYLE if chosen.style and style is None else style.name if style else None
        label, qualities, quality, now = _qualities(offered)
        about = _("Words to be written in the picture go into quotes; --no leaves something out.")
        needed = chosen.strength is not None  # of use together with a picture alone
        upload = discord.ui.FileUpload[Any](
            custom_id="picture", required=needed, min_values=int(needed), max_values=1
        )
        return [
            text_field("prompt", _("Prompt"), about=about),
            menu_field(
                "aspect",
                _("Shape"),
                _options(shapes, chosen.aspect),
                usual=_usual(_(ASPECT_NAMES.get(usual.aspect or "", usual.aspect or ""))),
            ),
            menu_field("quality", label, _options(qualities, quality), usual=_usual(now)),
            menu_field(
                "style",
                _("Style"),
                _options(looks, look),
                usual=_usual(looks.get(usual.style or _NO_STYLE, usual.style or "")),
            ),
            discord.ui.Label(
                text=_("Picture to start from"),
                description=_("The new picture takes its shape, unless another one is chosen."),
                component=upload,
            ),
        ]

    def asked(self, values: FormValues) -> Asked:
        """Return what was asked; raise `InvalidRequest` where that cannot be read."""

        def chosen(field: str) -> str | None:
            return next(iter(values.choices.get(field, ())), None)

        try:
            kept: Any = json.loads(self.state or "{}")
            known = {name: kept[name] for name in _KEPT if name in kept}
            asked = Asked(values.texts["prompt"], **known)
        except (ValueError, TypeError, KeyError):
            raise unreadable() from None
        model, bar, quality = (chosen("quality") or "").rpartition(_SEPARATOR)
        return replace(
            asked,
            aspect=chosen("aspect"),
            style=chosen("style"),
            quality=quality or None,
            model=model if bar else None,
        )

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        asked = self.asked(values)
        picture = next(iter(values.files.get("picture", ())), None)
        fetch = None
        if picture is not None:
            check_attachment(picture)
            fetch = partial(bot.services.fetcher.fetch, picture)
            asked = replace(asked, strength=asked.strength or DEFAULT_STRENGTH)
        elif asked.strength is not None:
            raise InvalidRequest(_("Add an image to use a strength."))
        wish = await compose_here(interaction, bot, asked)
        await accept_wish(interaction, bot, wish, fetch)


def _usual(value: str) -> str:
    return _("As usual: {value}").format(value=value)


def _options(names: Mapping[str, str], chosen: str | None) -> list[discord.SelectOption]:
    return [
        discord.SelectOption(label=name[:CHOICE_LENGTH], value=value, default=value == chosen)
        for value, name in names.items()
    ]


def _shapes(offered: Offered) -> set[str]:
    return {aspect for spec in (*offered.models, offered.spec) for aspect in spec.sizes}


def _qualities(offered: Offered) -> tuple[str, dict[str, str], str | None, str]:
    """Return the label of the menu, its options by value, the chosen one, and what counts else.

    With several models a value is `model|quality`; without a quality, its usual one.
    """
    chosen, usual = offered.chosen, offered.usual
    now = _(QUALITY_NAMES.get(usual.quality or "", usual.quality or ""))
    if not offered.models:
        own = {name: _(QUALITY_NAMES.get(name, name)) for name in offered.spec.qualities}
        return _("Quality"), own, chosen.quality, now
    names = {f"{spec.name}{_SEPARATOR}": short_name(spec.name) for spec in offered.models}
    for spec in offered.models:
        for quality in spec.qualities:
            title = f"{short_name(spec.name)} · {_(QUALITY_NAMES.get(quality, quality))}"
            names[f"{spec.name}{_SEPARATOR}{quality}"] = title
    picked = chosen.model or chosen.quality
    value = f"{offered.spec.name}{_SEPARATOR}{chosen.quality or ''}" if picked else None
    # Models before qualities: what is left out can still be an option of the command.
    shown = list(names)[:CHOICES]
    if value in names and value not in shown:
        shown[-1] = value
    names = {name: names[name] for name in shown}
    return _("Model and quality"), names, value, f"{short_name(offered.spec.name)} · {now}"
