"""Failed attempts to reach Discord, and what each means for the way that was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
import discord

_TOO_LARGE: Final = 40005
# Sending switched off for a while, blocked by Discord's proxy, overloaded
# (https://discord.com/developers/docs/topics/opcodes-and-status-codes#json).
_PASSING: Final = frozenset({40004, 40333, 130000})
# The filter for explicit content, AutoMod's for messages and titles, that for harmful links.
_FILTERS: Final = frozenset({"20009", "200000", "200001", "240000"})
# An interaction that is unknown by now, or was answered already, and a token past its time.
_PAST: Final = frozenset({10062, 40060, 50027})
_UNKNOWN_MESSAGE: Final = 10008
REFUSED_PAUSE_S: Final = 600.0


class RungClosedError(Exception):
    """This way will not work any more; the next one may."""


class UnprovenError(RungClosedError):
    """This way will not work any more, and an earlier attempt by it may have arrived."""


class RetryLaterError(Exception):
    """This way may work later; whether the attempt reached Discord is not known."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class TooLargeError(Exception):
    """Discord refused the upload's size."""


FORESEEN: Final = (
    discord.DiscordException,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    RuntimeError,
    json.JSONDecodeError,
    UnicodeDecodeError,
)
"""What discord.py raises where Discord or the network fails, the last two at garbled replies."""


def explain(error: Exception, *, by_token: bool = False) -> Exception:
    """Turn what discord.py raised into `RungClosedError`, `RetryLaterError` or `TooLargeError`.

    A refusal without one of Discord's own codes speaks of the bot as a whole (a void bot token, a
    proxy that blocks this address), not of the message: the way stays open, and is tried again
    after a long pause. An interaction's token (`by_token`) is not worth that; it is closed.
    """
    if isinstance(error, discord.HTTPException):
        return _explain_status(error, by_token=by_token)
    if isinstance(error, discord.RateLimited):
        return RetryLaterError("429", error.retry_after)
    if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
        return RetryLaterError(type(error).__name__)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return RetryLaterError("a garbled reply")
    if isinstance(error, RuntimeError) and str(error) == "Session is closed":
        return RetryLaterError("the client was closed")
    return error


def _explain_status(error: discord.HTTPException, *, by_token: bool) -> Exception:
    reason = f"{error.status} {error.code}"
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or error.code == _TOO_LARGE:
        return TooLargeError(reason)
    if is_rate_limit(error):
        return RetryLaterError(reason, asked_wait(error.response.headers))
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _PASSING:
        return RetryLaterError(reason)
    if not error.code and not by_token:
        return RetryLaterError(reason, REFUSED_PAUSE_S)
    return RungClosedError(reason)


def is_rate_limit(error: Exception) -> bool:
    """Tell whether Discord, or the proxy before it, answered 429."""
    if isinstance(error, discord.HTTPException):
        return error.status == HTTPStatus.TOO_MANY_REQUESTS
    return isinstance(error, discord.RateLimited)


def is_past(error: Exception, *, answered: bool) -> bool:
    """Tell whether an interaction can be answered no more, or its answer is gone.

    People dismiss answers that they alone see, and delete messages, while they are made; `answered`
    says that there was one.
    """
    if not isinstance(error, discord.HTTPException):
        return False
    return error.code in _PAST or (answered and error.code == _UNKNOWN_MESSAGE)


def is_filtered(reasons: str) -> bool:
    """Tell whether one of Discord's filters stands among the reasons of closed ways."""
    return not _FILTERS.isdisjoint(re.findall(r"\d+", reasons))


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response's `Retry-After` asks for; None where it names none."""
    value = headers.get("Retry-After", "")
    return float(value) if value.replace(".", "", 1).isdecimal() else None
