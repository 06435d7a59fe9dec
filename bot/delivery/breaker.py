"""The circuit breaker: what Discord refuses is not asked for on and on, and no wait is endless.

Discord counts answers of 401, 403 and 429 as invalid requests, whatever was asked, and locks an
address out that gets 10,000 of them within ten minutes
(https://discord.com/developers/docs/topics/rate-limits#invalid-request-limit-aka-cloudflare-bans).
So they are counted for the whole process, where every request passes: in a trace of aiohttp, which
discord.py takes as `http_trace` and uses for the bot's own routes and for interaction tokens alike.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from math import isfinite
from typing import Any, Final, cast

import aiohttp
import discord
from discord.http import Route

from bot.delivery.errors import asked_wait

log = logging.getLogger(__name__)

OPENS_AT: Final = 20
"""So many refusals of the bot as a whole, with nothing taken in between, open the breaker."""
CAREFUL_AT: Final = 300
"""So many invalid requests of any kind within `WINDOW_S` open it too."""
MOST: Final = 1000
"""At so many within `WINDOW_S` nothing is sent at all: a tenth of what Discord bears."""
WINDOW_S: Final = 600.0
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0
LONGEST_ASKED_S: Final = 600.0
"""What Discord itself asks to wait is kept up to this; the answers put off keep all of it."""
LONGEST_WAIT_S: Final = 10.0
"""discord.py sleeps through rate limits up to this, five times a call; longer ones are raised."""
UNSAID_WAIT_S: Final = 60.0
"""The wait where Discord limits the rate and does not say for how long."""

_INVALID: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
)
# Blocked by Discord's proxy, in JSON: as much a refusal of the bot as a whole as one without code.
_BLOCKED: Final = 40333


class CircuitBreaker:
    """Counts Discord's refusals; while it is open, progress rests and one answer at a time probes.

    It opens after `OPENS_AT` refusals of the bot as a whole in a row (a 429 of the proxy before
    Discord, a 401 or 403 without one of Discord's codes) and closes at the first request that is
    taken; and it is open while `CAREFUL_AT` invalid requests lie within the last ten minutes.
    `clock` gives seconds that only move forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._invalid: deque[float] = deque(maxlen=MOST)
        self._in_row = 0
        self._pause = 0.0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """Whether Discord has refused so much that only what must be sent is sent."""
        return self._in_row >= OPENS_AT or self._recent() >= CAREFUL_AT

    @property
    def probe_in_s(self) -> float:
        """Seconds until the next answer may be tried; 0 while it is closed."""
        if self._in_row < OPENS_AT:
            return 0.0
        return max(0.0, self._probe_at - self._clock())

    def trace(self, client: discord.Client) -> aiohttp.TraceConfig:
        """Return what a client's `http_trace` has to be."""
        config = aiohttp.TraceConfig()

        async def before(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
            if str(params.url).startswith(Route.BASE):
                self._check()

        async def after(_: Any, __: Any, params: aiohttp.TraceRequestEndParams) -> None:
            if str(params.url).startswith(Route.BASE):
                await self._look(client, params.response)

        config.on_request_start.append(before)
        config.on_request_end.append(after)
        return config

    def _check(self) -> None:
        """Raise `discord.RateLimited` where one more refusal would be too many."""
        if self._recent() >= MOST:
            raise discord.RateLimited(self._invalid[0] + WINDOW_S - self._clock())

    async def _look(self, client: discord.Client, response: aiohttp.ClientResponse) -> None:
        """Count a response; raise `discord.RateLimited` for a wait that is not to be slept through.

        discord.py has no bound on the wait for an interaction's token, and fails with a KeyError or
        TypeError where a 429 does not say how long it lasts.
        """
        if response.status not in _INVALID:
            if response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._taken()
            return
        body = await _json_of(response)
        limited = response.status == HTTPStatus.TOO_MANY_REQUESTS
        # What the other users of a shared resource used up is not counted against the bot.
        if not (limited and response.headers.get("X-RateLimit-Scope") == "shared"):
            self._invalid.append(self._clock())
        if not limited:
            if body.get("code", 0) in {0, _BLOCKED}:
                self._refused(response.status)
            else:
                self._taken()
            return
        wait_s, exact = _wait_of(response, body)
        if not response.headers.get("Via"):
            # The proxy before Discord: discord.py raises it.
            self._refused(response.status, wait_s)
            return
        everywhere = bool(body.get("global"))
        if exact and wait_s is not None and wait_s <= LONGEST_WAIT_S:
            if everywhere:
                _reopen_later(client, wait_s)
            return
        wait_s = UNSAID_WAIT_S if wait_s is None else wait_s
        if everywhere:
            self._in_row = max(self._in_row, OPENS_AT - 1)
            self._refused(response.status, wait_s)
        raise discord.RateLimited(wait_s)

    def _taken(self) -> None:
        if self._in_row >= OPENS_AT:
            log.info("Discord takes requests again")
        self._in_row, self._pause, self._probe_at = 0, 0.0, 0.0

    def _refused(self, status: int, asked_s: float | None = None) -> None:
        """Note a refusal of the bot as a whole; `asked_s` is the wait that came with it."""
        now = self._clock()
        self._in_row += 1
        if self._in_row < OPENS_AT:
            return
        if self._in_row == OPENS_AT:
            log.warning(
                "Discord refuses the bot (%d, %d times in a row): progress is not shown, and one"
                " answer at a time is tried, until something is taken",
                status,
                self._in_row,
            )
        # What was sent before the pause began says nothing about its end.
        if now >= self._probe_at:
            self._pause = min(max(FIRST_PAUSE_S, 2 * self._pause), LONGEST_PAUSE_S)
            pause = self._pause * random.uniform(0.75, 1.0)  # noqa: S311
            self._probe_at = now + max(pause, min(asked_s or 0.0, LONGEST_ASKED_S))

    def _recent(self) -> int:
        """Return how many invalid requests lie within the window."""
        since = self._clock() - WINDOW_S
        while self._invalid and self._invalid[0] <= since:
            self._invalid.popleft()
        return len(self._invalid)


async def _json_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return a response's JSON object; empty where it is none."""
    try:
        body = json.loads(await response.read())
    except (aiohttp.ClientError, ValueError):
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _wait_of(response: aiohttp.ClientResponse, body: dict[str, Any]) -> tuple[float | None, bool]:
    """Return the seconds that a 429 asks for, and whether discord.py can read them itself."""
    asked = body.get("retry_after")
    if isinstance(asked, int | float) and isfinite(asked):
        readable = response.headers.get("Content-Type") == "application/json"
        return max(0.0, asked), readable
    return asked_wait(response.headers), False


def _reopen_later(client: discord.Client, wait_s: float) -> None:
    """Let requests go on after a global rate limit, whatever becomes of the one that met it.

    discord.py closes its gate while that request sleeps; cancelled there, it never opens it again.
    """
    gate = getattr(client.http, "_global_over", None)
    if isinstance(gate, asyncio.Event):
        asyncio.get_running_loop().call_later(wait_s, gate.set)
