"""The commands in the languages of the catalogues, as Discord shows them."""

from __future__ import annotations

from typing import Final

from discord import Locale
from discord.app_commands import ContextMenu, Translator
from discord.app_commands.translator import (
    TranslationContextLocation,
    TranslationContextTypes,
    locale_str,
)
from typing_extensions import override

from bot.words import DEFAULT, _, language_of, mark, speaking

# Names are looked up with a mark of what they name: "show" the command is not the verb of a
# sentence.
NAMES: Final = (
    mark("/imagine"),
    mark("/compose"),
    mark("/edit"),
    mark("/describe"),
    mark("/queue"),
    mark("/history"),
    mark("/show"),
    mark("/settings"),
    mark("/limits"),
    mark("/limit"),
    mark("/role"),
    mark("/clear"),
    mark("/server"),
    mark("/help"),
    mark("/privacy"),
    mark("/block"),
    mark("/rule"),
    mark("/channel"),
    mark("/allow"),
    mark("/deny"),
    mark("/export"),
    mark("/delete"),
    mark("/admin"),
    mark("/pause"),
    mark("/resume"),
    mark("/unload"),
    mark("/engine"),
    mark("option:engine"),
    mark("/drain"),
    mark("/stats"),
    mark("/health"),
    mark("/audit"),
    mark("/reload"),
    mark("/sync"),
    mark("/cancel"),
    mark("/defaults"),
    mark("/style"),
    mark("/add"),
    mark("/remove"),
    mark("/list"),
    mark("option:prompt"),
    mark("option:aspect"),
    mark("option:quality"),
    mark("option:style"),
    mark("option:count"),
    mark("option:image"),
    mark("option:strength"),
    mark("option:negative"),
    mark("option:seed"),
    mark("option:steps"),
    mark("option:guidance"),
    mark("option:private"),
    mark("option:text"),
    mark("option:job"),
    mark("option:reason"),
    mark("option:name"),
    mark("option:user"),
    mark("option:hours"),
    mark("option:everywhere"),
    mark("option:rule"),
    mark("option:where"),
    mark("option:role"),
    mark("option:images"),
    mark("option:minutes"),
    mark("option:weight"),
    mark("option:actor"),
    mark("option:action"),
    mark("option:days"),
    mark("/moderation"),
    mark("/policy"),
    mark("/reports"),
    mark("option:restricted"),
    mark("option:elsewhere"),
    mark("option:lora"),
    mark("option:lora_strength"),
    mark("option:transparent"),
    mark("option:draft"),
    mark("option:enhance"),
    mark("option:after"),
    mark("/model"),
    mark("option:model"),
    mark("option:instruction"),
    mark("option:image2"),
    mark("option:image3"),
    mark("option:region"),
    mark("option:pictures"),
)
_COMMAND_NAMES: Final = frozenset(
    {TranslationContextLocation.command_name, TranslationContextLocation.group_name}
)


class CommandTranslator(Translator):
    """Looks the commands' names and descriptions up in the catalogues."""

    @override
    async def translate(
        self, string: locale_str, locale: Locale, context: TranslationContextTypes
    ) -> str | None:
        if language_of(str(locale)) == DEFAULT:
            return None
        key = string.message
        menu = isinstance(context.data, ContextMenu)
        if context.location in _COMMAND_NAMES and not menu:
            key = f"/{key}"
        elif context.location is TranslationContextLocation.parameter_name:
            key = f"option:{key}"
        with speaking(str(locale)):
            found = _(key)
        return None if found == key else found
