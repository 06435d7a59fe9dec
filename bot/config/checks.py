"""Values of settings: read from what stands in `.env`, or refused with half a sentence."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bot.catalogue.models import Quality, find_model
from bot.config.api_keys import NONE, Keys
from bot.config.hosts import is_loopback
from bot.domain.request import REUSE_MAX, ImageRequest
from bot.errors import ConfigError, InvalidRequest

# Three base64url parts: the bot's id, a timestamp, a signature.
_REAL_TOKEN: Final = re.compile(r"[\w-]{18,}\.[\w-]{5,8}\.[\w-]{20,}")
_TOKEN_PARTS: Final = 3
_BASE64URL: Final = re.compile(r"[\w-]+", re.ASCII)
_ENGINES: Final = re.compile(r"ray|local(:[1-9][0-9]?)?")


def user_ids(value: Any) -> Any:
    """Return the set of ids of a text with commas, and anything else as it is."""
    if not isinstance(value, str):
        return value
    parts = value.replace(",", " ").split()
    if not all(part.isdecimal() for part in parts):
        raise ValueError("it must be Discord user ids separated by commas")
    return frozenset(int(part) for part in parts)


def gigabytes(value: Any) -> Any:
    """Return None for `auto`, else the number of GiB."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise ValueError("it must be auto, or a number of GiB") from None


def known_model(value: str) -> str:
    """Return a model's full name."""
    try:
        return find_model(value).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


def known_models(value: Any) -> Any:
    """Return the full names of models that are separated by commas, each once, in their order."""
    if not isinstance(value, str):
        return value
    names = (part.strip() for part in value.split(","))
    return tuple(dict.fromkeys(known_model(name) for name in names if name))


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


def no_bot_token(text: str) -> str | None:
    """Return why `text` cannot be a bot's token, in half a sentence without it; None if it can.

    A token is three base64url parts with dots between them, the first of which is the bot's id in
    digits (docs.discord.com/developers/reference, Authentication, shows one). More is for Discord.
    """
    if text.lower().startswith("bot "):
        return "the word Bot does not belong before it"
    parts = text.split(".")
    if len(parts) == 1:
        what = "a client secret, a public key and an application id are none"
        return f"it must be three parts with dots between them; {what}"
    if len(parts) != _TOKEN_PARTS or not all(map(_BASE64URL.fullmatch, parts)):
        return "it must be three parts of letters, digits, - and _ with dots between them"
    try:
        identity = base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4))
    except ValueError:
        identity = b""
    return None if identity.isdigit() else "its first part is no bot's; copy the whole of it"


def no_real_token_elsewhere(token: SecretStr | None, api_url: str | None) -> None:
    """Raise `ValueError` where a token of Discord's form would go to another address."""
    text = token.get_secret_value() if token else ""
    if api_url and _REAL_TOKEN.fullmatch(text.strip()):
        raise ValueError(
            "DISCORD_API_URL and a DISCORD_TOKEN that looks real exclude each other: a real token "
            "is sent to Discord alone"
        )


def nobody_else_without_keys(keys: Keys | None, host: str, origins: Collection[str]) -> None:
    """Raise `ValueError` where anyone could use the API who is not on this machine."""
    if not (keys and keys.anyone):
        return
    if not is_loopback(host):
        raise ValueError(
            f"API_KEYS={NONE} serves this machine alone: set HTTP_HOST to 127.0.0.1, or give keys"
        )
    if origins:
        raise ValueError(
            f"API_KEYS={NONE} serves no pages from elsewhere: give keys, or leave HTTP_ORIGINS "
            "empty"
        )


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


QualityLevel = Annotated[str, AfterValidator(readable_quality)]
"""A setting that is a quality level, or empty."""
Gigabytes = Annotated[Annotated[float, Field(ge=2)] | None, BeforeValidator(gigabytes)]
"""A setting that is a number of GiB, or `auto`, which is None."""
KeptGigabytes = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(gigabytes)
]
"""A setting that is a number of GiB, 0 for none, or `auto`, which is None."""
Share = Annotated[float, Field(gt=0, le=1)] | None
"""A setting that is a share, or not set."""
Threshold = Annotated[float, Field(ge=0, le=REUSE_MAX)] | None
"""A setting that is a threshold of reuse, or not set."""
