"""Values of settings: read from what stands in `.env`, or refused with half a sentence."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from bot.catalogue.models import Quality, find_model
from bot.config.hosts import is_loopback
from bot.domain.request import ImageRequest
from bot.errors import ConfigError, InvalidRequest

_ENGINES: Final = re.compile(r"ray|local(:[1-9][0-9]?)?")


def user_ids(value: Any) -> Any:
    """Return the set of ids of a text with commas, and anything else as it is."""
    if not isinstance(value, str):
        return value
    parts = value.replace(",", " ").split()
    if not all(part.isdecimal() for part in parts):
        raise ValueError("it must be Discord user ids separated by commas")
    return frozenset(int(part) for part in parts)


def number_or_auto(value: Any) -> Any:
    """Return None for `auto`, and what is to be read as a number otherwise."""
    return None if isinstance(value, str) and value.strip().lower() == "auto" else value


def known_model(value: str) -> str:
    """Return a model's full name."""
    try:
        return find_model(value).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


def readable_engines(value: str) -> str:
    """Return it if it says where pictures are drawn."""
    if not _ENGINES.fullmatch(value):
        raise ValueError("it must be local, local:N for N engines, or ray")
    return value


def loopback_only(value: str | None) -> str | None:
    """Return an address of this machine without a slash at its end."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not is_loopback(parts.hostname or ""):
        raise ValueError("it must be an http address on this machine (127.0.0.1 or localhost)")
    return value.rstrip("/")


def read_quality(value: str) -> Quality:
    """Return the steps and the guidance of `steps:guidance`, such as 20:4.0."""
    steps, colon, guidance = value.partition(":")
    try:
        level = Quality(int(steps), float(guidance) if colon else 4.0)
        # The same bounds as for a request, with the same sentences.
        ImageRequest("x", steps=level.steps, guidance=level.guidance)
    except InvalidRequest as error:
        raise ValueError(error.sentence) from None
    except ValueError:
        raise ValueError("it must be steps:guidance, such as 20:4.0") from None
    return level


def readable_quality(value: str) -> str:
    """Return it if it is empty or says a quality level."""
    if value:
        read_quality(value)
    return value
