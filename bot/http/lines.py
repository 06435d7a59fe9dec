"""Lines of requests: whose key may have no more jobs waits, instead of being refused."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from fastapi import Request

from bot.config.api_keys import Caller
from bot.domain.job import JobState
from bot.http.context import ApiContext
from bot.http.errors import Problem, problem_of
from bot.http.following import hung_up
from bot.jobs.admission import Submission
from bot.jobs.feed import Subscription
from bot.rules.refusals import OpenJobsReached, QueueFull

_FORECAST_S: Final = 0.5
"""Seconds in which the forecast has to be there, else a refusal says a usual time."""
_LONGEST_S: Final = 3600
Commit = Callable[[], Awaitable[Submission]]


async def committed(
    context: ApiContext, caller: Caller, commit: Commit, request: Request | None
) -> Submission:
    """Return what `commit` does, once key and queue have room for another job.

    Without a `request` that waits nothing is waited for; with one at most as long as for a picture,
    and while its client is there. The requests of a key get their turns in the order in which they
    came. Raises what `commit` does; where there was no room, `Problem` with when to ask again.
    """
    try:
        if request is None:
            return await commit()
        return await _in_line(context, caller, commit, request)
    except (OpenJobsReached, QueueFull) as error:
        raise problem_of(error, await _seconds(context, caller, error)) from None


async def _in_line(
    context: ApiContext, caller: Caller, commit: Commit, request: Request
) -> Submission:
    line = context.lines.setdefault(caller.user_id, asyncio.Lock())
    if not line.locked():  # Else it would pass those who wait.
        try:
            return await commit()
        except (OpenJobsReached, QueueFull):
            pass
    until = asyncio.get_running_loop().time() + context.wait_s
    gone = asyncio.ensure_future(hung_up(request))
    closing = asyncio.ensure_future(context.followers.closing.wait())
    ends: set[asyncio.Future[Any]] = {gone, closing}
    try:
        if not await _came(line.acquire(), ends, until):
            return await _last_try(commit, gone)
        try:
            with context.queue.feed.subscribe() as news:
                while True:
                    try:
                        return await commit()
                    except (OpenJobsReached, QueueFull):
                        if not await _came(_room(news), ends, until):
                            return await _last_try(commit, gone)
        finally:
            line.release()
    finally:
        for end in ends:
            end.cancel()


async def _last_try(commit: Commit, gone: asyncio.Future[None]) -> Submission:
    """Try once more, which says why it is refused; nothing is drawn for who is not there."""
    if gone.done():
        raise Problem(408, "The client hung up before its request was accepted.")
    return await commit()


async def _came(wait: Awaitable[Any], ends: set[asyncio.Future[Any]], until: float) -> bool:
    """Wait until then for something; return False where one of `ends` comes first."""
    waiting = asyncio.ensure_future(wait)
    try:
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait({waiting, *ends}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        waiting.cancel()


async def _room(news: Subscription) -> None:
    """Wait until a job has ended, or has left the queue for an engine."""
    async for update in news:
        if update.kind in {"final", "running"}:
            return


async def _seconds(
    context: ApiContext, caller: Caller, error: OpenJobsReached | QueueFull
) -> int | None:
    """Return in how many seconds there will be room by the forecast; None where it is not known."""
    try:
        async with asyncio.timeout(_FORECAST_S):
            standing = await context.queue.standing.now()
    except TimeoutError:
        return None

    def times() -> Iterator[float | None]:
        for entry in standing.order:
            place = standing.places.get(entry.id)
            if place is None:
                continue
            if isinstance(error, OpenJobsReached):
                if entry.user_id == caller.user_id:
                    yield place.ends_at
            elif entry.state is JobState.QUEUED:
                yield place.starts_at

    earliest = min((at for at in times() if at is not None), default=None)
    if earliest is None:
        return None
    return min(_LONGEST_S, max(1, math.ceil(earliest - time.time())))
