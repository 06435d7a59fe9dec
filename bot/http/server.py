"""The application on uvicorn, in the bot's own event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from bot import __version__
from bot.errors import StartupError
from bot.http import health, images, jobs, openai, pages
from bot.http.context import BEARER, ApiContext
from bot.http.errors import add_error_answers
from bot.http.guard import Guard
from bot.http.origins import open_to

log = logging.getLogger(__name__)

_LAST_MOMENT_S: Final = 2
_HEADERS_LIMIT: Final = 32 * 1024


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


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
    )
    app.state.context = context
    for router in (images.router, jobs.router, openai.router):
        app.include_router(router, dependencies=[BEARER])
    app.include_router(health.router)
    app.include_router(pages.router)
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

    def __init__(self, context: ApiContext, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._context = context
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                open_to(Guard(build_app(context), context.keys, context.metrics), context.origins),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEADERS_LIMIT,
                timeout_graceful_shutdown=_LAST_MOMENT_S,
            )
        )

    async def run(self) -> None:
        """Serve until `close`, or until cancelled."""
        context = self._context
        beside = [
            asyncio.create_task(context.followers.run(), name="http watch"),
            asyncio.create_task(
                context.metrics.watch(context.queue, context.database), name="http metrics"
            ),
        ]
        who = ", ".join(context.keys.names) or "anyone on this machine"
        log.info("the HTTP API is open at %s for %s (%s/docs)", self.url, who, self.url)
        try:
            await self._server.serve([self._listener])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    def close(self) -> None:
        """Take no more requests, and answer those that wait with what there is; `run` ends soon."""
        self._context.followers.closing.set()
        self._server.should_exit = True
