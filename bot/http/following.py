"""Followers of jobs: who waits over HTTP for news of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import replace

from fastapi import Request

from bot.jobs.feed import JobUpdate, Subscription
from bot.jobs.queue import JobQueue


class JobFollower:
    """Passes the news of jobs to those who wait for one of them, until the door closes."""

    def __init__(self, queue: JobQueue) -> None:
        self.closing = asyncio.Event()
        self._queue = queue
        self._followers: dict[str, set[Subscription]] = {}
        self._watching: dict[Subscription, str] = {}
        """Those who are told of every move in the queue, and of which job they hear."""

    async def run(self) -> None:
        """Pass updates on until cancelled.

        One subscription serves all: with one a request, every move in a long queue would be told to
        everyone who waits.
        """
        with self._queue.feed.subscribe() as updates:
            async for update in updates:
                if update.kind == "moved":
                    for follower, job_id in self._watching.items():
                        follower.put(replace(update, job_id=job_id))
                for follower in self._followers.get(update.job_id, ()):
                    follower.put(update)

    @contextmanager
    def following(self, job_id: str, *, moves: bool = False) -> Generator[Subscription]:
        """Receive the updates of one job until the context ends; with `moves` of its place, too."""
        subscription = Subscription()
        self._followers.setdefault(job_id, set()).add(subscription)
        if moves:
            self._watching[subscription] = job_id
        try:
            yield subscription
        finally:
            self._watching.pop(subscription, None)
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

    async def ended(self, job_id: str, seconds: float, request: Request) -> bool:
        """Wait until a job has ended, for at most `seconds`, while client and door are there.

        Returns False where the client hung up before.
        """
        with self.following(job_id) as follower:
            job = await self._queue.job(job_id)
            if job is None or job.state.final:
                return True

            async def final() -> None:
                async for update in follower:
                    if update.kind == "final":
                        return

            gone = asyncio.ensure_future(hung_up(request))
            waits = [gone, *map(asyncio.ensure_future, (final(), self.closing.wait()))]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                return not gone.done()
            finally:
                for wait in waits:
                    wait.cancel()


async def hung_up(request: Request) -> None:
    """Wait until a request's client hangs up; its body has been read by then."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
