"""Ids of requests: each answer names its own, and so do the lines of the log about it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Final

from starlette.datastructures import Headers

HEADER: Final = "X-Request-Id"
# What proxies commonly make: UUIDs, hexadecimal numbers, with a prefix or without.
_THEIRS: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

_current: ContextVar[str] = ContextVar("request_id", default="-")


def request_id() -> str:
    """Return the id of the request that is being answered, `-` outside of any."""
    return _current.get()


def begin(headers: Headers) -> str:
    """Return the id of a request that begins: the one that came with it, if it is harmless."""
    given = headers.get(HEADER, "")
    found = given if _THEIRS.fullmatch(given) else f"req_{secrets.token_hex(8)}"
    _current.set(found)
    return found
