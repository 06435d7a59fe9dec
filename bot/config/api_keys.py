"""API keys: who calls, known by a hash; imports nothing that takes time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

NONE: Final = "none"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
# What may stand behind `Bearer` (RFC 6750, section 2.1).
_KEY: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")
# A snowflake holds the milliseconds since 2015 above bit 22: ids below 2^40 would be users of the
# first five minutes of that year, when there was no Discord.
_ID_BITS: Final = 40


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it is. `user_id` depends on the name alone: a new key keeps jobs and limits."""

    name: str
    user_id: int
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""

    def signature(self, text: str) -> str:
        """Return a signature that only this key's holder, or this process, can have made."""
        return hmac.new(self.digest, text.encode(), hashlib.sha256).hexdigest()


def user_id_of(name: str) -> int:
    """Return the user id of a key's name: 40 bits of its SHA-256, below any of Discord's."""
    digest = hashlib.sha256(f"api-key:{name}".encode()).digest()
    return int.from_bytes(digest[: _ID_BITS // 8]) or 1


class Keys:
    """The keys that open the door. The keys themselves are not kept, only their hashes."""

    def __init__(self, callers: Iterable[Caller], *, anyone: Caller | None = None) -> None:
        self._callers = tuple(callers)
        self.anyone = anyone
        """Who calls without a key, where `API_KEYS=none` allows that."""

    def __repr__(self) -> str:
        return f"Keys({', '.join(caller.name for caller in self._callers) or NONE})"

    @property
    def names(self) -> list[str]:
        """The names of the keys."""
        return [caller.name for caller in self._callers]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name:key`s separated by commas, or `none`; raise `ValueError`, never with a key."""
        if text.strip().lower() == NONE:
            return cls((), anyone=Caller("local", user_id_of(NONE), b""))
        callers: dict[str, Caller] = {}
        for number, entry in enumerate(text.replace(",", " ").split(), start=1):
            name, colon, key = entry.partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise ValueError(f"entry {number} must be name:key, the name of A-Z a-z 0-9 _ . -")
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"the key of entry {number} must be 16 to 256 of the characters "
                    "A-Z a-z 0-9 . _ ~ + / = -"
                )
            caller = Caller(name, user_id_of(name), hashlib.sha256(key.encode()).digest())
            if name in callers or any(caller.digest == one.digest for one in callers.values()):
                raise ValueError(f"entry {number} has a name or key that another one has too")
            callers[name] = caller
        if not callers:
            raise ValueError("it must be name:key, several separated by commas, or none")
        return cls(callers.values())

    def find(self, authorization: str | None) -> Caller | None:
        """Return whose key an `Authorization` header carries; every key is compared, always."""
        if self.anyone is not None:
            return self.anyone
        scheme, _, key = (authorization or "").strip().partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        found = None
        for caller in self._callers:
            if hmac.compare_digest(caller.digest, digest):
                found = caller
        return found if scheme.lower() == "bearer" else None

    def signed_by(self, text: str, signature: str) -> Caller | None:
        """Return whose signature of `text` this is."""
        if self.anyone is not None:
            return self.anyone
        found = None
        for caller in self._callers:
            if hmac.compare_digest(caller.signature(text).encode(), signature.encode()):
                found = caller
        return found
