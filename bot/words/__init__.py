"""The words that a user sees, in the user's language: gettext over the catalogues beside this file.

A sentence is written `_("… {name} …").format(name=…)`: an f-string cannot be looked up. Which
language counts is a context variable, so that whoever handles an interaction, a job or a message
sets it once with `speaking`, and everything called from there, tasks included, speaks it.
"""

from __future__ import annotations

import gettext
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
DEFAULT: Final = "en"
LANGUAGES: Final = {"en": "English", "zh_CN": "简体中文"}
"""The languages that are complete, each by its own name."""

_language: ContextVar[str] = ContextVar("language", default=DEFAULT)


@lru_cache(maxsize=64)
def language_of(locale: str) -> str:
    """Return the language that serves a Discord locale such as `en-GB` or `zh-TW` best."""
    name = locale.replace("-", "_")
    if name in LANGUAGES:
        return name
    # Whoever reads Traditional Chinese reads Simplified sooner than English.
    return "zh_CN" if name.startswith("zh") else DEFAULT


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    if language == DEFAULT:
        return gettext.NullTranslations()
    with (FOLDER / f"{language}.mo").open("rb") as file:
        return gettext.GNUTranslations(file)


@contextmanager
def speaking(locale: str) -> Generator[None]:
    """Speak the language of a Discord locale until the context ends."""
    token = _language.set(language_of(locale))
    try:
        yield
    finally:
        _language.reset(token)


def speak(locale: str) -> None:
    """Speak the language of a Discord locale in the rest of this task."""
    _language.set(language_of(locale))


def language() -> str:
    """Return the language that is spoken here, a key of `LANGUAGES`."""
    return _language.get()


def _(sentence: str) -> str:
    """Return a sentence in the language that is spoken here."""
    return _catalogue(_language.get()).gettext(sentence) if sentence else ""


def ngettext(one: str, many: str, count: int) -> str:
    """Return the form of a sentence that fits a number; fill the number in yourself."""
    return _catalogue(_language.get()).ngettext(one, many, count)


def mark(sentence: str) -> str:
    """Mark a sentence of a constant for the catalogues; `_` looks it up where it is used."""
    return sentence
