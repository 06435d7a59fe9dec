"""Refusals of requests, as values: why, until when, how much is left. Doors put them into words.

The sentences stand in `wording.py`, which knows neither Discord's marks nor any door's commands.
"""

from __future__ import annotations

from enum import StrEnum

from bot.errors import InvalidRequest, LimitReached, NotAllowed, QueueClosed
from storage.usage import QuotaScope


class QuotaUnit(StrEnum):
    """What a quota bounds."""

    IMAGES = "pictures"
    SECONDS = "GPU seconds"


class OpenJobsReached(LimitReached):
    """A user has as many open jobs as one may have; it helps to cancel one, or to wait."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"open jobs: {limit} is the limit")
        self.limit = limit


class CooldownRuns(LimitReached):
    """A user asks again within `seconds` of the last request."""

    def __init__(self, seconds: float, retry_at: int) -> None:
        super().__init__(f"one request in {seconds:g} s", retry_at=retry_at)
        self.seconds = seconds


class QuotaReached(LimitReached):
    """A quota of 24 hours has no room for `needed` more; `retry_at` None: it never will have."""

    def __init__(
        self,
        scope: QuotaScope,
        unit: QuotaUnit,
        *,
        used: float,
        limit: float,
        needed: float,
        retry_at: int | None,
    ) -> None:
        super().__init__(f"quota of {unit} by {scope}: {needed:g} do not fit", retry_at=retry_at)
        self.scope = scope
        self.unit = unit
        self.used = used
        self.limit = limit
        self.needed = needed


class QueueFull(QueueClosed):
    """As many jobs wait as may: in all, or of one server."""

    def __init__(self, size: int, *, of_server: bool = False) -> None:
        super().__init__(f"queue full: {size} jobs wait")
        self.size = size
        self.of_server = of_server


class QueueDrained(QueueClosed):
    """The queue takes nothing new; `reason` is an admin's, or one of our own that is translated."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"queue drained: {reason}")
        self.reason = reason


class ShuttingDown(QueueClosed):
    """The process ends."""

    def __init__(self) -> None:
        super().__init__("shutting down")


class UserBlocked(NotAllowed):
    """A user may not use the bot here; `until` in Unix seconds, None: for good."""

    def __init__(self, until: float | None, reason: str) -> None:
        super().__init__("the user is blocked")
        self.until = until
        self.reason = reason


class ChannelClosed(NotAllowed):
    """The server lets nothing be drawn in this channel."""

    def __init__(self) -> None:
        super().__init__("the channel is closed")


class ModelRefused(NotAllowed):
    """The server has kept `model` for members with one of `roles`; without any, for nobody."""

    def __init__(self, model: str, roles: tuple[int, ...]) -> None:
        super().__init__(f"the model {model} is not allowed")
        self.model = model
        self.roles = roles


class PromptRuleBroken(InvalidRequest):
    """The prompt breaks a rule of the server; which one is not told."""

    def __init__(self) -> None:
        super().__init__("the prompt breaks a rule")


Refusal = (
    OpenJobsReached
    | CooldownRuns
    | QuotaReached
    | QueueFull
    | QueueDrained
    | ShuttingDown
    | UserBlocked
    | ChannelClosed
    | ModelRefused
    | PromptRuleBroken
)
"""Whatever `JobQueue.submit` may answer a request with."""
