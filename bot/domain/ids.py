"""Job ids: short, ASCII, sortable by time.

18 characters of Crockford's base 32 (https://www.crockford.com/base32.html) in lower case: 10 for
the Unix time in milliseconds (48 bits), 8 for 40 random bits. With one more letter an id is still
a valid Discord nonce (at most 25 characters).
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
JOB_ID_LENGTH: Final = 18
JOB_ID_PATTERN: Final = rf"[{_ALPHABET}]{{{JOB_ID_LENGTH}}}"
SNOWFLAKE_PATTERN: Final = "[0-8]?[0-9]{1,18}"
"""An id of Discord's as SQLite can hold it; the first above 9e18 comes in the year 2082."""
_JOB_ID = re.compile(JOB_ID_PATTERN)


def _encode(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))


def new_job_id(now: float | None = None) -> str:
    """Return a new id; `now` is the Unix time in seconds (default: the clock)."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    return _encode(milliseconds, 10) + _encode(secrets.randbits(40), 8)


def is_job_id(text: str) -> bool:
    """Tell whether `text` has the form of a job id."""
    return _JOB_ID.fullmatch(text) is not None
