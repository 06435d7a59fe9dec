"""The guard of all endpoints: who calls, how much is sent, how much at once, from which page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.config.api_keys import Caller, Keys
from bot.config.hosts import is_loopback
from bot.http.errors import Problem, answer, unforeseen
from bot.http.links import LINK_S, signed_text
from bot.http.metrics import Metrics
from bot.http.request_ids import HEADER, begin
from bot.http.turns import RequestTurn, RequestTurns
from bot.http.uploads import UPLOAD_LIMIT
from bot.http.viewers import PATHS

# Both prompts at their longest, each character as an escaped pair of six characters a half.
BODY_LIMIT: Final = 256 * 1024
BODY_LIMITS: Final[Mapping[str, int]] = dict.fromkeys(
    (
        *("/v1/images/edits", "/api/v1/images/generate"),
        *("/api/v1/images/describe", "/api/v1/prompts/enhance"),
    ),
    UPLOAD_LIMIT,
)
"""Those of the paths that take more."""
BODY_RATE: Final = 64 * 1024
"""Bytes of a body that give its client a second more: half a megabit a second is a slow line."""
AT_ONCE: Final = 128
"""Requests of one key that may be open at the same time."""
_HARDENING: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The page of the description has its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # A link to a picture opens it without the key.
    "Referrer-Policy": "no-referrer",
}
_PUBLIC: Final = PATHS | {"/healthz", "/readyz", "/docs", "/openapi.json"}


class Guard:
    """Lets through what may come in; everything but the public pages needs a key."""

    def __init__(
        self, app: ASGIApp, keys: Keys, metrics: Metrics, turns: RequestTurns, body_s: float
    ) -> None:
        self._app = app
        self._turns = turns
        self._body_s = body_s
        self._keys = keys
        self._metrics = metrics
        self._open: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        began = time.monotonic()
        status = 0
        turn = RequestTurn(self._turns)
        request_id = begin(Headers(scope=scope))

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                turn.end()  # What follows may be a stream.
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HARDENING.items():
                    headers.setdefault(name, value)
                headers[HEADER] = request_id
            await send(message)

        async def refuse(problem: Problem) -> None:
            await answer(scope["path"], problem)(scope, receive, sending)

        try:
            caller = self._caller(scope)
            with self._counted(caller):
                scope.setdefault("state", {})["caller"] = caller
                path = scope["path"]
                limit = BODY_LIMITS.get(path, BODY_LIMIT)
                received = _bounded(receive, limit, self._body_s)
                if caller is not None:
                    received = await _in_turn(received, turn, scope)
                await self._app(scope, received, sending)
        except Problem as problem:
            await refuse(problem)
        except Exception as error:  # noqa: BLE001 - what follows would print it with all it quotes
            # Where an answer has begun, the application has logged the error.
            if not status:
                await refuse(unforeseen(error))
        finally:
            turn.end()
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.request(scope["method"], route, status, time.monotonic() - began)

    def _caller(self, scope: Scope) -> Caller | None:
        """Return who calls, None on a public page; raise `Problem`."""
        headers = Headers(scope=scope)
        path = scope["path"]
        if self._keys.anyone is not None:
            _require_this_machine(headers)
        if "transfer-encoding" in headers and "content-length" in headers:
            # Two lengths of one body: what stands in front may have read another request than this.
            raise Problem(
                400,
                "Send Content-Length or Transfer-Encoding, not both.",
                headers={"Connection": "close"},
            )
        if path in _PUBLIC:
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if signature := query.get("signature"):
            expires = query.get("expires", ["0"])[0]
            caller = self._keys.signed_by(signed_text(path, expires), signature[0])
            if caller and scope["method"] in {"GET", "HEAD"} and _later_than_now(expires):
                return caller
            raise Problem(403, "This link is wrong, or has expired.")
        caller = self._keys.find(headers.get("authorization"))
        if caller is None:
            raise Problem(
                401,
                "Send a valid key: Authorization: Bearer <key>.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller

    @contextmanager
    def _counted(self, caller: Caller | None) -> Generator[None]:
        if caller is None:
            yield
            return
        if self._open[caller.user_id] >= AT_ONCE:
            raise Problem(
                429,
                f"This key has {AT_ONCE} requests open already.",
                headers={"Retry-After": "1"},
            )
        self._open[caller.user_id] += 1
        try:
            yield
        finally:
            self._open[caller.user_id] -= 1


def _later_than_now(expires: str) -> bool:
    # Later than any link of ours lasts: it was made while the clock was ahead, or by nobody here.
    digits = expires.isascii() and expires.isdecimal()
    return digits and 0 < int(expires[:12]) - time.time() <= LINK_S


def _require_this_machine(headers: Headers) -> None:
    """Raise `Problem` where a page from elsewhere is behind a request that needs no key.

    A browser sends requests to this machine for any page; its name (DNS rebinding) or `Origin`
    tells them apart.
    """
    for name, prefix in (("host", "//"), ("origin", "")):
        value = headers.get(name)
        if value is None:
            continue
        try:
            host = urlsplit(f"{prefix}{value}").hostname
        except ValueError:
            host = None
        if not is_loopback(host or ""):
            raise Problem(403, "Without keys only this machine itself is served.")


async def _in_turn(receive: Receive, turn: RequestTurn, scope: Scope) -> Receive:
    """Return a `receive` that begins the turn once the body is there, and ends it at the next call.

    Then the client is waited for: that it hangs up. Without a body the turn begins at once.
    """
    headers = Headers(scope=scope)
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        await turn.begin()
        return receive
    whole = False

    async def received() -> Message:
        nonlocal whole
        if whole:
            turn.end()
        message = await receive()
        if not whole and not message.get("more_body", False):
            whole = True
            await turn.begin()
        return message

    return received


def _bounded(receive: Receive, limit: int, body_s: float) -> Receive:
    """Return a `receive` that raises `Problem` for a body that is too large or comes too slowly.

    `limit` is in bytes, `body_s` in seconds.
    """
    received = 0
    whole = False
    until: float | None = None

    async def bounded() -> Message:
        nonlocal received, until, whole
        if until is None:  # Not before: until it is asked for, the body is held up here.
            until = asyncio.get_running_loop().time() + body_s
        try:
            # Once the body is there, this waits for the client to hang up.
            async with asyncio.timeout_at(None if whole else until):
                message: dict[str, Any] = dict(await receive())
        except TimeoutError:
            raise Problem(
                408,
                f"The body did not arrive: {body_s:g} seconds and one for each "
                f"{BODY_RATE // 1024} KiB are over.",
                headers={"Connection": "close"},
            ) from None
        whole = not message.get("more_body", False)
        arrived = len(message.get("body", b""))
        until += arrived / BODY_RATE
        received += arrived
        if received > limit:
            # uvicorn reads on and drops the rest, so that the client comes to read the answer.
            raise Problem(413, f"The body is larger than {limit // 1024} KiB.")
        return message

    return bounded
