"""Who is connected to the sandbox, and who of them has not asked for anything yet."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bot.machine.acceptor import Serving

MOST: Final = 256
"""Open connections: a few dozen of the bot's, and some pages'."""
IDLE_S: Final = 20.0
"""Seconds that a connection may go without a request."""
REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"Too many connections to the sandbox are open."
)


class Visitors:
    """The connections of one server."""

    def __init__(self) -> None:
        self._asked: set[web.RequestHandler] = set()

    @property
    def middleware(self) -> Middleware:
        """Notes who asks."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._asked.add(request.protocol)
            return await handler(request)

        return note

    def serving(self, server: web.Server) -> Serving:
        """Return what the acceptor needs to know."""

        def make_room() -> bool:
            known = server.connections
            self._asked.intersection_update(known)
            for one in known:
                if one not in self._asked and one.transport is not None:
                    one.force_close()
                    return True
            return False

        return Serving(server, lambda: len(server.connections), make_room, REFUSAL)
