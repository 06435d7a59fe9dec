"""Limits of single API keys, instead of those of all keys; imports nothing that takes time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from bot.config.api_keys import Keys

NAMES: Final = ("jobs", "images", "seconds")
_ENTRY: Final = re.compile(r"([A-Za-z0-9_.-]{1,32}):(.+)")
_VALUE: Final = re.compile(r"([a-z]+)=(\d{1,9}(?:\.\d{1,3})?)")
KeyLimitValues = Mapping[str, Mapping[str, float]]
"""Of each key by its name: some of `NAMES` with a number, 0 for no limit."""


def key_limits(value: Any) -> Any:
    """Return what `name:jobs=8,images=50 other:seconds=600` says, and anything else as it is."""
    if not isinstance(value, str):
        return value
    found: dict[str, dict[str, float]] = {}
    for number, entry in enumerate(value.replace(";", " ").split(), start=1):
        parts = _ENTRY.fullmatch(entry)
        values = [_VALUE.fullmatch(one) for one in parts[2].split(",")] if parts else []
        own = {one[1]: float(one[2]) for one in values if one}
        if parts is None or len(own) != len(values) or not own.keys() <= set(NAMES):
            raise ValueError(
                f"entry {number} must be name:limit=number, the limit one of {', '.join(NAMES)}; "
                "several limits of a key are separated by commas, keys by spaces"
            )
        if parts[1] in found:
            raise ValueError(f"entry {number} has a name that another one has too")
        if math.modf(own.get("jobs", 0))[0] or math.modf(own.get("images", 0))[0]:
            raise ValueError(f"entry {number}: jobs and images are whole numbers")
        found[parts[1]] = own
    return found


def of_known_keys(limits: KeyLimitValues, keys: Keys | None) -> None:
    """Raise `ValueError` for limits of a key that there is not."""
    unknown = limits.keys() - set(keys.names if keys else ())
    if unknown:
        raise ValueError(f"API_KEY_LIMITS names {min(unknown)}, which API_KEYS does not")
