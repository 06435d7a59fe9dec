"""The record of what the bot asked over REST and what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Exchange:
    """One request and its reply.

    `route` is the template as in Discord's documentation (`/channels/{channel_id}/messages`),
    `path` the real one with its query; `status` is 0 where the connection was cut instead.
    """

    method: str
    route: str
    path: str
    request: Any = None
    files: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    status: int = 0
    response: Any = None
    at: float = 0.0
    seconds: float = 0.0
