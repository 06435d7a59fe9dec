"""Jobs and their states; no Discord, no SQL, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bot.domain.request import ImageRequest


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    GENERATED = "generated"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing can follow."""
        return not TRANSITIONS[self]


# The one table of allowed transitions; the trigger `jobs_state` in storage/migrations repeats it,
# and tests/storage/test_states.py holds the two together.
TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
        JobState.RUNNING: frozenset(
            {JobState.GENERATED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
        ),
        JobState.GENERATED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)


class DeliveryState(StrEnum):
    """Where the answer to a job is.

    `WAITING` is the address of a job that has not ended yet; the outcome's transaction turns it
    into `PENDING`, which is what the courier picks up.
    """

    WAITING = "waiting"
    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"


DELIVERY_TRANSITIONS: Final[Mapping[DeliveryState, frozenset[DeliveryState]]] = MappingProxyType(
    {
        DeliveryState.WAITING: frozenset({DeliveryState.PENDING}),
        DeliveryState.PENDING: frozenset({DeliveryState.SENDING}),
        DeliveryState.SENDING: frozenset(
            {DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.UNDELIVERABLE}
        ),
        DeliveryState.DELIVERED: frozenset(),
        DeliveryState.UNDELIVERABLE: frozenset({DeliveryState.DELIVERED}),
    }
)


class Target(StrEnum):
    """Which door a job came through, and so where its answer goes."""

    INTERACTION = "interaction"
    MESSAGE = "message"
    HTTP = "http"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, where, and how to answer.

    `source_id` is unique: the interaction's or message's snowflake (prefixed `i` or `m`), or an
    HTTP idempotency key. A second request with the same `source_id` finds the first one's job.
    Ids are Discord snowflakes; `token_expires_at` is Unix time in seconds.
    """

    source_id: str
    target: Target
    user_id: int
    user_name: str
    guild_id: int | None = None
    channel_id: int | None = None
    parent_channel_id: int | None = None
    """The channel that a thread belongs to."""
    category_id: int | None = None
    """The category that the channel, or the thread's channel, stands in; not stored."""
    role_ids: frozenset[int] = frozenset()
    """The roles that the user has in the server, if the bot is in it."""
    message_id: int | None = None
    application_id: int | None = None
    token: str | None = field(default=None, repr=False)
    token_expires_at: float | None = None
    locale: str = "en-US"
    bot_in_channel: bool = True
    """Whether the bot itself may see the channel (false for user installs elsewhere)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`. Times are Unix seconds."""

    id: str
    user_id: int
    guild_id: int | None
    channel_id: int | None
    target: Target
    request: ImageRequest
    state: JobState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    """How often it was begun; a claim that was given back does not count."""
    claims: int = 0
    """How often it was claimed; also the claim's number, which fences late results."""
    engine_faults: int = 0
    interruptions: int = 0
    cancel_requested_at: float | None = None
    error: str | None = None
    """The sentence that the user sees, when the job failed."""
    error_kind: str | None = None
    model: str | None = None
    """What drew it, or is to draw it; None before that: the model that is configured then."""
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds by stage: load, encode, denoise, decode, save, total."""
    locale: str = "en-US"
    """The Discord locale of whoever asked; the answer speaks it."""
    parent_id: str | None = None
    """The job whose picture this one was made from."""
    parent_channel_id: int | None = None
    """The channel that the job's thread belongs to."""
    deleted_at: float | None = None
    """When its pictures were deleted, at its owner's or a moderator's wish."""
    text: str | None = None
    """What was written, where that was asked for and is not deleted."""
    readable: bool = True
    """Whether the stored request could be read; if not, `request` stands in for it."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A row of `images`: one finished picture. `file` is relative to the images folder."""

    job_id: str
    position: int
    file: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    seed: int
    verdict: str | None = None
    """What the image check said, a `bot.rules.verdicts.Verdict`; None where it was off."""
    score: float | None = None
