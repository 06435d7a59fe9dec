"""Faults for tests: what Discord, its proxies and the network do on bad days."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from bot.sandbox.errors import Json
from bot.sandbox.exchanges import Exchange

Handler = Callable[[], Awaitable[web.StreamResponse]]
Predicate = Callable[[Exchange], bool]


@dataclass(slots=True, eq=False)
class Fault:
    """A rule: the next `times` matching requests meet it (None: all of them).

    `hits` counts how many did; `reached` is set at the first, `acted` once the work of one is done.
    A held request goes on once `release` is called. `raw` stands in for the `body`, whose kind it
    claims to be of.
    """

    method: str
    route: str
    times: int | None = 1
    when: Predicate | None = None
    status: int = 0
    body: Json = field(default_factory=dict[str, object])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    after: bool = False
    reset: bool = False
    hold: bool = False
    hits: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    acted: asyncio.Event = field(default_factory=asyncio.Event)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let held requests, now and later ones, go on."""
        self._open.set()

    async def apply(self, request: web.Request, act: Handler) -> web.StreamResponse | None:
        """Answer in place of (or after) the real handler; None means the connection is cut."""
        self.hits += 1
        self.reached.set()
        if self.hold and not self.after:
            await self._open.wait()
        response = await act() if self.after or self.hold else None
        if response is not None:
            self.acted.set()
        if self.hold:
            if self.after:
                await self._open.wait()
            return response
        if self.reset:
            cut(request)
            return None
        text = json.dumps(self.body).encode() if self.raw is None else self.raw
        kind = "application/json" if self.body else "text/plain"
        return web.Response(status=self.status, body=text, content_type=kind, headers=self.headers)

    def matches(self, exchange: Exchange) -> bool:
        """Say whether this rule applies to a request."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.method not in ("*", exchange.method):
            return False
        path = exchange.path.split("?")[0]
        if not any(fnmatch.fnmatchcase(text, self.route) for text in (exchange.route, path)):
            return False
        return self.when is None or self.when(exchange)


class Faults:
    """The rules in force. Routes are templates or paths, with `*` for anything."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def respond(
        self,
        method: str,
        route: str,
        status: int,
        *,
        code: int = 0,
        message: str = "",
        times: int | None = 1,
        when: Predicate | None = None,
        after: bool = False,
    ) -> Fault:
        """Answer with `status` and Discord's error `code`; `after` does the work all the same."""
        body: Json = {"message": message or f"{status}: fault", "code": code}
        return self._add(Fault(method, route, times, when, status, body, after=after))

    def rate_limit(
        self,
        method: str,
        route: str,
        retry_after: float = 0.01,
        *,
        via: bool = True,
        everywhere: bool = False,
        times: int | None = 1,
        when: Predicate | None = None,
    ) -> Fault:
        """Answer 429; without `via` it looks like a ban by Discord's proxy."""
        text = "You are being rate limited."
        body: Json = {"message": text, "code": 0, "retry_after": retry_after, "global": everywhere}
        headers = {"Retry-After": str(retry_after)}
        headers["X-RateLimit-Scope"] = "global" if everywhere else "user"
        if everywhere:
            headers["X-RateLimit-Global"] = "true"
        if via:
            headers["Via"] = "1.1 google"
        return self._add(Fault(method, route, times, when, 429, body, headers))

    def reset(
        self,
        method: str,
        route: str,
        *,
        after: bool = False,
        times: int | None = 1,
        when: Predicate | None = None,
    ) -> Fault:
        """Cut the TCP connection before the work is done, or `after` it."""
        return self._add(Fault(method, route, times, when, after=after, reset=True))

    def hold(
        self,
        method: str,
        route: str,
        *,
        after: bool = False,
        times: int | None = 1,
        when: Predicate | None = None,
    ) -> Fault:
        """Let requests wait for `release` before the work, or between work and reply."""
        return self._add(Fault(method, route, times, when, after=after, hold=True))

    def clear(self) -> None:
        """Drop all rules and let everything held go on."""
        for rule in self._rules:
            rule.release()
        self._rules.clear()

    def find(self, exchange: Exchange) -> Fault | None:
        """Return the first rule that applies."""
        return next((rule for rule in self._rules if rule.matches(exchange)), None)

    def _add(self, rule: Fault) -> Fault:
        self._rules.append(rule)
        return rule


def cut(request: web.Request) -> None:
    """Reset the TCP connection of `request` at once."""
    transport = request.transport
    if transport is None:
        return
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
