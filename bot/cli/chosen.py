"""The models that a command is about: the one that it was given, or all that are offered."""

from __future__ import annotations

from bot.catalogue.models import MODELS, ModelSpec
from bot.catalogue.offered import find_offered
from bot.config.levels import model_as_set
from bot.config.settings import Settings
from bot.errors import BotError


def chosen_models(settings: Settings, text: str | None) -> tuple[ModelSpec, ...]:
    """Return the model that `text` means, or all offered ones for None.

    One that is not offered yet is found too: its files come first, the setting after. Raises
    `BotError` with the names that there are.
    """
    if text is None:
        return settings.models
    known = tuple(MODELS.values())
    found = find_offered(settings.models, text) or find_offered(known, text)
    if found is None:
        names = ", ".join(MODELS)
        raise BotError(f"There is no model {text[:100]!r}, or several; choose one of: {names}.")
    return (model_as_set(settings, found.name),)
