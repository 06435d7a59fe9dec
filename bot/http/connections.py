"""Connections of the HTTP API: how long each may keep the server waiting."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from bot.http.reading import Reading

_LEAST_SENT: Final = 16 * 1024
"""Bytes that a client has to take of an answer in each `send_s`, while there are as many."""
_ONCE_MORE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds that a client may take."""

    idle_s: float = 20.0
    """Until a request begins: longer than clients keep connections that they do not use (httpx 5 s,
    aiohttp 15 s), so that theirs are not closed at the moment of the next request."""
    head_s: float = 10.0
    """From a request's first byte to the end of its headers."""
    body_s: float = 30.0
    """From there to the end of its body; what has come of it gives more (`guard.BODY_RATE`)."""
    send_s: float = 20.0
    """Until the client takes the next part of an answer."""


class WaitingConnections:
    """The connections that wait for their clients, the longest wait first."""

    def __init__(self, limits: TimeLimits) -> None:
        self.limits = limits
        self._waiting: dict[HttpConnection, None] = {}

    def add(self, connection: HttpConnection) -> None:
        """Note that a connection begins to wait."""
        self._waiting.setdefault(connection)

    def discard(self, connection: HttpConnection) -> None:
        """Note that a connection does not wait any more."""
        self._waiting.pop(connection, None)

    def close_oldest(self) -> bool:
        """Close the connection that has waited longest; return False where none waits.

        One whose client still takes its last answer is left alone, and one that sent something.
        """
        for connection in self._waiting:
            if not connection.unread and not connection.transport.get_write_buffer_size():
                self.discard(connection)
                connection.transport.abort()
                return True
        return False


class HttpConnection(H11Protocol):
    """uvicorn's protocol with a limit on each wait for the client.

    uvicorn itself limits the time after an answer alone, and that only until the next byte: a
    client that says nothing, or a byte now and then, would keep its connection for ever.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        waiting: WaitingConnections,
        reading: Reading,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._all_waiting = waiting
        self._reading = reading
        self._limits = waiting.limits
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._begun = False
        """Whether bytes of a request have come, and not all of its headers."""
        self.unread = False
        """Whether what has come waits to be read here."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._all_waiting.discard(self)
        self._stop_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._answering and not self._begun:
            self._begun = True
            self._start_timer(self._limits.head_s)
        # One piece at a time: what else comes, the client's end too, waits in the kernel.
        self.transport.pause_reading()
        self.unread = True
        self._reading.put(partial(self._read, data))

    def _read(self, data: bytes) -> None:
        self.unread = False
        if self.transport.is_closing():
            return
        super().data_received(data)
        # uvicorn stops reading by itself while too much of a body is unread.
        if not self.flow.read_paused:
            self.transport.resume_reading()

    @override
    def handle_events(self) -> None:
        super().handle_events()
        if self._answering:
            self._begun = False
            self._all_waiting.discard(self)
            if not self.flow.write_paused:
                self._stop_timer()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering:  # Else the next request was there already.
            self._wait()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_timer(self._limits.send_s)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering:
            self._stop_timer()
        else:
            self._start_timer(self._limits.idle_s)

    @override
    def send_400_response(self, msg: str) -> None:
        # uvicorn's, with a body of the shape that every other refusal has.
        text = json.dumps({"detail": "That is no valid HTTP request."}).encode()
        head = (
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(text)
        )
        self.transport.write(head + text)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        # uvicorn's annotation leaves out that there is none before the first request.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        self._begun = False
        if not self.transport.is_closing():
            self._all_waiting.add(self)
        self._start_timer(self._limits.idle_s)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._unsent = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(seconds, self._overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        if self.unread:  # That is no fault of the client's.
            self._start_timer(_ONCE_MORE_S)
            return
        before, left = self._unsent, self.transport.get_write_buffer_size()
        if left and before - left >= min(before, _LEAST_SENT):
            self._start_timer(self._limits.send_s)  # A slow client that reads.
        else:
            self.transport.abort()
