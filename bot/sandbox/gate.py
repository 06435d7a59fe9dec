"""The gate of every request: host and origin checks, the record, faults, the token, errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bot.sandbox.errors import ApiError, Refusal, not_found, unauthorized
from bot.sandbox.exchanges import Exchange
from bot.sandbox.faults import Faults
from bot.sandbox.uploads import Body, read_body

API: Final = "/api/v10"
LOOPBACK: Final = ("127.0.0.1", "localhost")
BODY: Final = web.RequestKey("body", Body)
_OPEN: Final = ("/interactions/", "/webhooks/")
_RATE: Final = {
    "X-RateLimit-Limit": "50",
    "X-RateLimit-Remaining": "49",
    "X-RateLimit-Reset-After": "1.000",
}


def reply(body: Any, status: int = 200) -> web.Response:
    """Return JSON with exactly the content type that Discord gives it."""
    if status == 204:  # noqa: PLR2004
        return web.Response(status=status)
    text = json.dumps(body).encode()
    return web.Response(status=status, body=text, content_type="application/json")


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse other host names (DNS rebinding) and other origins; turn refusals into JSON."""
    if _host_name(request) not in LOOPBACK:
        return reply({"message": "The sandbox answers on loopback addresses only."}, 403)
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        return reply({"message": "The sandbox answers its own page only."}, 403)
    acting = request.path.startswith(("/user/", API))
    if acting and request.headers.get("Sec-Fetch-Site") == "cross-site":
        return reply({"message": "The sandbox answers its own page only."}, 403)
    try:
        return await handler(request)
    except Refusal as refusal:
        return reply({"message": refusal.sentence}, refusal.status)


def _host_name(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None


def api_gate(
    token: str, faults: Faults, record: Callable[[Exchange], None], now: Callable[[], float]
) -> Middleware:
    """Return the middleware of Discord's REST API."""

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(API):
            try:
                return await handler(request)
            except ApiError as error:
                return reply(error.body, error.status)
        resource = request.match_info.route.resource
        route = "" if resource is None else resource.canonical.removeprefix(API)
        path = request.path_qs.removeprefix(API)
        exchange = Exchange(request.method, route, path, at=now())
        started = time.perf_counter()

        async def act() -> web.StreamResponse:
            try:
                _check_token(request, route, token)
                return await handler(request)
            except ApiError as error:
                return reply(error.body, error.status)
            except web.HTTPException:
                return reply(not_found().body, 404)

        response = await _answer(request, exchange, faults, act)
        if response is not None:
            exchange.status = response.status
            exchange.response = _json_of(response)
            if response.status < 400:  # noqa: PLR2004
                response.headers.update(_RATE)
                response.headers["X-RateLimit-Reset"] = f"{now() + 1:.3f}"
                response.headers["X-RateLimit-Bucket"] = f"{request.method}:{route}"
        exchange.seconds = time.perf_counter() - started
        record(exchange)
        # After a cut nothing of this reply reaches the client.
        return response or web.Response(status=500)

    return gate


async def _answer(
    request: web.Request,
    exchange: Exchange,
    faults: Faults,
    act: Callable[[], Any],
) -> web.StreamResponse | None:
    try:
        body = await read_body(request)
    except ApiError as error:
        return reply(error.body, error.status)
    except ConnectionError:  # The client died while it sent this.
        return None
    request[BODY] = body
    exchange.request = body.json
    exchange.files = [(upload.filename, upload.size) for upload in body.uploads]
    fault = faults.find(exchange)
    return await act() if fault is None else await fault.apply(request, act)


def _check_token(request: web.Request, route: str, token: str) -> None:
    if route.startswith(_OPEN):
        return
    if request.headers.get("Authorization") != f"Bot {token}":
        raise unauthorized()


def _json_of(response: web.StreamResponse) -> Any:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return None
    if response.content_type != "application/json":
        return response.body.decode(errors="replace")
    try:
        return json.loads(response.body)
    except ValueError:  # What a fault puts in its place.
        return response.body.decode(errors="replace")
