"""Links to pictures that open without a key for a while, as OpenAI's clients expect of a `url`."""

from __future__ import annotations

import time
from typing import Final

from bot.config.api_keys import Caller

LINK_S: Final = 3600
"""How long a link opens, in seconds; OpenAI's do for as long."""


def picture_path(job_id: str, position: int) -> str:
    """Return where a picture is served."""
    return f"/api/v1/images/{job_id}/{position}.png"


def signed_text(path: str, expires: str) -> str:
    """Return what a link's signature is of."""
    return f"{path} {expires}"


def signed_path(caller: Caller, job_id: str, position: int) -> str:
    """Return a picture's path with what opens it for an hour without the key."""
    path = picture_path(job_id, position)
    if not caller.digest:  # Nobody needs a key.
        return path
    expires = str(int(time.time()) + LINK_S)
    return f"{path}?expires={expires}&signature={caller.signature(signed_text(path, expires))}"
