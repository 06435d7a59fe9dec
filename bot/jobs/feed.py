"""The feed of news about jobs inside the process; nothing in it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

UpdateKind = Literal[
    "queued", "loading", "running", "compiling", "step", "preview", "writing", "final", "moved"
]

# Unread jobs a subscriber may have; beyond it the oldest is dropped, unless it is final.
UNREAD_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What is new about a job: `stage` and `fraction` of loading, `model` if it is switched to.

    While it writes, `step` are the tokens and `total` those expected; 0 where it draws afterwards.

    `moved` is of no single job, whose id is empty then: the places of all that wait may be others.
    """

    job_id: str
    kind: UpdateKind
    step: int = 0
    total: int = 0
    stage: str = ""
    fraction: float | None = None
    model: str = ""
    preview: bytes | None = field(default=None, repr=False)


PLACES_MOVED: Final = JobUpdate("", "moved")


class Subscription:
    """Updates for one reader, at most one unread a job; iterate over it."""

    def __init__(self) -> None:
        self._unread: dict[str, JobUpdate] = {}
        self._news = asyncio.Event()

    def put(self, update: JobUpdate) -> None:
        """Add an update; it replaces an unread one of the same job, unless that is final."""
        old = self._unread.get(update.job_id)
        if old and (old.kind == "final" or update.kind == "moved"):
            return
        if old and old.preview and update.kind == "step":
            update = replace(update, preview=old.preview)
        self._unread[update.job_id] = update
        if len(self._unread) > UNREAD_LIMIT:
            droppable = (
                job_id for job_id, unread in self._unread.items() if unread.kind != "final"
            )
            self._unread.pop(next(droppable, ""), None)
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobUpdate:
        while not self._unread:
            self._news.clear()
            await self._news.wait()
        return self._unread.pop(next(iter(self._unread)))


class Feed:
    """Passes updates to every subscriber; never waits for one."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._latest: dict[str, JobUpdate] = {}

    def publish(self, update: JobUpdate) -> None:
        """Tell every subscriber. Slow ones lose old updates of a job, never its last."""
        if update.kind == "final":
            self._latest.pop(update.job_id, None)
        elif update.kind not in {"moved", "preview"}:
            self._latest[update.job_id] = update
        for subscription in self._subscriptions:
            subscription.put(update)

    def latest(self, job_id: str) -> JobUpdate | None:
        """Return the newest state of an open job that was published here (no move, no preview)."""
        return self._latest.get(job_id)

    @contextmanager
    def subscribe(self) -> Generator[Subscription]:
        """Receive what is published from now on, until the context ends."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
