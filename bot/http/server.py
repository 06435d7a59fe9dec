"""The application on uvicorn, in the bot's own event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from typing_extensions import override

from bot import __version__
from bot.errors import StartupError
from bot.http import health, images, job_events, jobs, openai, pages, viewers, writing
from bot.http.connections import HttpConnection, TimeLimits, WaitingConnections
from bot.http.context import BEARER, ApiContext
from bot.http.errors import add_error_answers
from bot.http.guard import Guard
from bot.http.origins import open_to
from bot.http.readiness import DatabaseCheck
from bot.http.reading import Reading
from bot.http.turns import RequestTurns
from bot.machine.acceptor import Acceptor, Serving

log = logging.getLogger(__name__)

_LAST_MOMENT_S: Final = 2
_HEADERS_LIMIT: Final = 32 * 1024
MOST_CONNECTIONS: Final = 512
"""Open connections: some keys' 128 requests each, and a few that come and go."""
_FULL: Final = json.dumps({"detail": "Too many connections are open; try again soon."}).encode()
_NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _operation_id(route: APIRoute) -> str:
    """Return the name that generated clients give the call; FastAPI's own has the path in it."""
    return route.name


def build_app(context: ApiContext) -> FastAPI:
    """Return the application without its guard."""
    app = FastAPI(
        title="Qwen-Image bot",
        version=__version__,
        description=(
            "Pictures for programs: the same queue, limits and rules as in Discord. Every path but "
            "the health checks wants `Authorization: Bearer <key>`."
        ),
        servers=[{"url": context.public_url}] if context.public_url else None,
        # Served by bot/http/pages.py.
        openapi_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.context = context
    app.state.pages = pages.Pages(app)
    app.state.database_check = DatabaseCheck(context.database)
    routers = (images.router, writing.router, jobs.router, job_events.router, openai.router)
    for router in routers:
        app.include_router(router, dependencies=[BEARER])
    app.include_router(health.router)
    app.include_router(pages.router)
    app.include_router(viewers.router)
    add_error_answers(app)
    return app


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet; raise `StartupError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where reuse means theft.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no address"
        raise StartupError(
            f"The HTTP API cannot listen at {host}:{port} ({reason}); set HTTP_HOST and HTTP_PORT."
        ) from None
    return listener


class HttpDoor:
    """Serves the application on a socket until it is closed."""

    def __init__(
        self,
        context: ApiContext,
        listener: socket.socket,
        *,
        most: int = MOST_CONNECTIONS,
        limits: TimeLimits | None = None,
    ) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._context = context
        self._acceptor = Acceptor("the HTTP API", listener, most)
        limits = limits or TimeLimits()
        self._waiting = WaitingConnections(limits)
        self._reading = Reading(context.first)
        self._server = _Server(
            uvicorn.Config(
                open_to(
                    Guard(
                        build_app(context),
                        context.keys,
                        context.metrics,
                        RequestTurns(context.first, context.followers.closing),
                        limits.body_s,
                    ),
                    context.origins,
                ),
                http=HttpConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                # Its warnings are about single requests, which anyone can send without end.
                log_level="error",
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEADERS_LIMIT,
                timeout_graceful_shutdown=_LAST_MOMENT_S,
                # `HttpConnection` is the first to act.
                timeout_keep_alive=math.ceil(limits.idle_s) + 1,
            )
        )

    async def run(self) -> None:
        """Serve until `close`, or until cancelled."""
        context = self._context
        beside = [
            asyncio.create_task(context.followers.run(), name="http watch"),
            asyncio.create_task(self._reading.run(), name="http reading"),
            asyncio.create_task(
                context.metrics.watch(context.queue, context.database), name="http metrics"
            ),
        ]
        who = ", ".join(context.keys.names) or "anyone on this machine"
        log.info("the HTTP API is open at %s for %s (%s/docs)", self.url, who, self.url)
        serving = asyncio.create_task(self._server.serve([]), name="http server")
        accepting = self._acceptor.start(self._serving())
        try:
            await asyncio.wait({serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
            if not accepting.cancelled() and not serving.done():
                await accepting  # It failed.
            await serving
        finally:
            self.close()
            for task in (*beside, serving):
                task.cancel()
            await asyncio.wait({*beside, serving, accepting})

    def close(self) -> None:
        """Take no more requests, and answer those that wait with what there is; `run` ends soon."""
        self._context.followers.closing.set()
        self._acceptor.close()
        self._server.should_exit = True

    def _serving(self) -> Serving:
        state = self._server.server_state
        protocol = partial(
            HttpConnection,
            self._server.config,
            state,
            {},
            waiting=self._waiting,
            reading=self._reading,
        )
        return Serving(
            protocol, lambda: len(state.connections), self._waiting.close_oldest, _NO_ROOM
        )
