"""Who is connected to the sandbox, and whom it is answering."""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from typing_extensions import override

from bot.machine.acceptor import Serving

MOST: Final = 256
"""Open connections: a few dozen of the bot's, and some pages'."""
IDLE_S: Final = 20.0
"""Seconds that a connection may go without a request."""
REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"Too many connections to the sandbox are open."
)
log = logging.getLogger(__name__)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Leave out aiohttp's traceback of each request that is no HTTP: anybody can send them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log.addFilter(_worth_a_line)


def _is_open(connection: web.RequestHandler) -> bool:
    transport = connection.transport
    return transport is not None and not transport.is_closing()


class Visitors:
    """The connections of one server: which are being answered, and which wait for a request.

    aiohttp calls a middleware when a request begins, and an access logger when its answer has been
    sent.
    """

    def __init__(self) -> None:
        self._busy: set[web.RequestHandler] = set()
        self._waiting: dict[web.RequestHandler, None] = {}
        """The others, the longest wait first, whether they have ever asked or not."""

    @property
    def middleware(self) -> Middleware:
        """Notes that a request begins."""

        @web.middleware
        async def begin(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._waiting.pop(request.protocol, None)
            self._busy.add(request.protocol)
            return await handler(request)

        return begin

    def options(self) -> dict[str, Any]:
        """Return the options of the server: the end of answers is noted, idle connections end."""
        end = self._end

        class Ends(AbstractAccessLogger):
            @override
            def log(
                self, request: web.BaseRequest, response: web.StreamResponse, time: float
            ) -> None:
                end(request.protocol)

        return {
            "access_log_class": Ends,
            "access_log": log,
            "logger": log,
            "keepalive_timeout": IDLE_S,
        }

    def serving(self, server: web.Server) -> Serving:
        """Return what the acceptor needs to know."""

        def count() -> int:
            # aiohttp forgets those that end a few turns of the loop later.
            known = [one for one in server.connections if _is_open(one)]
            self._look_at(known)
            return len(known)

        def make_room() -> bool:
            for one in filter(_is_open, self._waiting):
                one.force_close()
                return True
            return False

        return Serving(server, count, make_room, REFUSAL)

    def _look_at(self, known: list[web.RequestHandler]) -> None:
        """Take note of those that have come and gone since; nothing else tells of them."""
        for one in known:
            if one not in self._busy:
                self._waiting.setdefault(one)
        self._busy.intersection_update(known)
        for gone in self._waiting.keys() - set(known):
            del self._waiting[gone]

    def _end(self, connection: web.RequestHandler) -> None:
        if connection in self._busy:
            self._busy.remove(connection)
            self._waiting[connection] = None
