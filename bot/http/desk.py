"""What the endpoints work with, and who is calling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from bot.http.errors import Problem
from bot.http.keys import Caller, Keys
from bot.http.metrics import Metrics
from bot.jobs.feed import JobUpdate, Subscription
from bot.jobs.fleet import Fleet
from bot.jobs.gallery import Gallery
from bot.jobs.loras import LoraList
from bot.jobs.model import Job
from bot.jobs.preferences import Preferences
from bot.jobs.queue import JobQueue
from bot.models import ModelSpec
from storage import deliveries
from storage.database import Database


class Watch:
    """Passes the news of jobs to those who wait for one of them, until the door closes."""

    def __init__(self, queue: JobQueue) -> None:
        self.closing = asyncio.Event()
        self._queue = queue
        self._followers: dict[str, set[Subscription]] = {}

    async def run(self) -> None:
        """Pass updates on until cancelled.

        One subscription serves all: with one a request, every move in a long queue would be told to
        everyone who waits.
        """
        with self._queue.feed.subscribe() as updates:
            async for update in updates:
                for follower in self._followers.get(update.job_id, ()):
                    follower.put(update)

    @contextmanager
    def following(self, job_id: str) -> Generator[Subscription]:
        """Receive the updates of one job until the context ends."""
        subscription = Subscription()
        self._followers.setdefault(job_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            left = self._followers[job_id]
            left.discard(subscription)
            if not left:
                del self._followers[job_id]

    async def updates(
        self, follower: Subscription, pause_s: float
    ) -> AsyncGenerator[JobUpdate | None]:
        """Yield updates, and None after `pause_s` seconds without one, until the door closes."""
        closing = asyncio.ensure_future(self.closing.wait())
        news = asyncio.ensure_future(anext(follower))
        try:
            while True:
                await asyncio.wait(
                    {news, closing}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
                )
                if closing.done():
                    return
                if not news.done():
                    yield None
                    continue
                yield news.result()
                news = asyncio.ensure_future(anext(follower))
        finally:
            closing.cancel()
            news.cancel()

    async def ended(self, job_id: str, seconds: float, request: Request) -> None:
        """Wait until a job has ended: for so long, while the client is there and the door open."""
        with self.following(job_id) as follower:
            job = await self._queue.job(job_id)
            if job is None or job.state.final:
                return

            async def final() -> None:
                async for update in follower:
                    if update.kind == "final":
                        return

            async def gone() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass

            waits = [asyncio.ensure_future(w) for w in (final(), gone(), self.closing.wait())]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()


@dataclass(frozen=True, slots=True)
class Health:
    """What the rest of the process says of itself."""

    online: Callable[[], bool]
    """Whether the bot is connected to Discord."""
    latency_s: Callable[[], float]
    """Seconds of a heartbeat on the gateway; not finite where there is none."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts of the bot that the endpoints use."""

    keys: Keys
    model: ModelSpec
    database: Database
    queue: JobQueue
    fleet: Fleet
    gallery: Gallery
    loras: LoraList
    preferences: Preferences
    health: Health
    watch: Watch
    metrics: Metrics
    wait_s: float
    """How long a request waits for its picture."""
    suffix: bool = False
    """Whether the model's recommended words are added to prompts."""

    async def own_job(self, caller: Caller, job_id: str) -> Job:
        """Return a job of this very key; raise `Problem` for anyone else's too."""
        job = await self.queue.job(job_id)
        if job is None or job.user_id != caller.user_id:
            raise Problem(404, "There is no such job.")
        return job

    async def fetched(self, job: Job) -> None:
        """Note that an ended job's answer was fetched, which is how it is delivered."""
        found = await self.database.read(partial(deliveries.get, job_id=job.id))
        if found and found.state != "delivered":
            await self.database.write(partial(deliveries.taken, job_id=job.id, now=time.time()))


def desk_of(request: Request) -> Desk:
    """Return the desk of the application."""
    return cast("Desk", request.app.state.desk)


def caller_of(request: Request) -> Caller:
    """Return who calls; the gate has put it there."""
    state = cast("dict[str, Any]", request.scope["state"])
    return cast("Caller", state["caller"])


TheDesk = Annotated[Desk, Depends(desk_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
# For the OpenAPI page alone: the gate has checked the key by then.
BEARER: Final = Security(HTTPBearer(auto_error=False, description="A key of API_KEYS."))
