"""Acceptance of connections: no more than a bound, and never the process's last open files."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

BACKLOG: Final = 512
"""Connections that the kernel holds until they are accepted."""
_AT_ONCE: Final = 16
"""Connections accepted before those that are open get their turn again."""
_PAUSE_S: Final = 1.0
"""Seconds until the next try where the machine refuses to accept; asyncio's own pause."""
_TELL_S: Final = 60.0
_UNSENT: Final = 128 * 1024
"""Bytes of an answer that the kernel may hold unsent.

Left to itself it takes megabytes of each connection and asks for more only once a third of them is
through: a client that reads slowly and one that does not read at all would look alike for a minute.
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """What an acceptor needs to know of its server."""

    protocol: Callable[[], asyncio.Protocol]
    """Makes the protocol of one connection."""
    count: Callable[[], int]
    """How many connections are open."""
    make_room: Callable[[], bool]
    """Closes the connection that has waited longest for its client; False where none waits."""
    refusal: bytes
    """What a client reads that there is no room for."""


def files_for_connections() -> int:
    """Return the file number that no connection may have: the last quarter is for the rest.

    The system gives the lowest number that is free, so a connection's own number says how many
    files the whole process has open (getrlimit(2), RLIMIT_NOFILE; Windows has no such limit).
    """
    if sys.platform == "win32":
        return sys.maxsize
    import resource  # noqa: PLC0415 - there is none on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - soft // 4


class Acceptor:
    """Accepts connections for one server, until it is closed.

    asyncio's own servers accept whatever comes, up to the limit of open files; there they fail with
    a traceback for each place in the backlog, and Discord and SQLite get no file either. Here the
    connection that has waited longest makes room for a new one, and where all are at work the new
    one is refused.

    `name` stands in the log, `most` bounds the connections. `listener` is bound already.
    """

    def __init__(self, name: str, listener: socket.socket, most: int) -> None:
        self._name = name
        self._listener = listener
        self._most = most
        self._opening: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._turned_away = 0
        self._told_at = -_TELL_S

    def start(self, serving: Serving) -> asyncio.Task[None]:
        """Listen, and return the task that accepts; raise OSError where the port is taken."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        # Here, not when the task begins: the limit is the one that the caller sees.
        accepting = self._accept(serving, files_for_connections())
        self._running = asyncio.create_task(accepting, name=f"accept: {self._name}")
        # Not earlier: the loop still watches the socket's number, which the next socket would get.
        self._running.add_done_callback(lambda _: self._listener.close())
        return self._running

    def close(self) -> None:
        """Accept nothing more; what is open stays open."""
        if self._running is None:
            self._listener.close()
        else:
            self._running.cancel()

    async def _accept(self, serving: Serving, highest: int) -> None:
        loop = asyncio.get_running_loop()
        accepted = 0
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._tell(f"cannot accept connections: {error.strerror or error}")
                serving.make_room()
                await asyncio.sleep(_PAUSE_S)
                continue
            full = (
                serving.count() + len(self._opening) >= self._most or connection.fileno() >= highest
            )
            if full:
                self._turned_away += 1
                self._tell(
                    f"is full with {serving.count()} connections; closed to make room or refused "
                    f"since the last such line: {self._turned_away}"
                )
            if full and not serving.make_room():
                _refuse(connection, serving.refusal)
            else:
                task = loop.create_task(_open(connection, serving.protocol))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            accepted += 1
            if accepted % _AT_ONCE == 0 or full:
                # `sock_accept` does not wait while there is one to accept; and what was closed to
                # make room gives its file back in the loop's next turn.
                await asyncio.sleep(0)

    def _tell(self, what: str) -> None:
        """Log at most once a minute."""
        now = time.monotonic()
        if now - self._told_at >= _TELL_S:
            self._told_at = now
            log.warning("%s %s", self._name, what)
            self._turned_away = 0


async def _open(connection: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
    try:
        # Otherwise an answer's second part waits 40 ms for the client's delayed acknowledgement;
        # asyncio sets this only on sockets that were made with IPPROTO_TCP.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Not on Windows.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
    except OSError:  # The client has gone again.
        connection.close()


def _refuse(connection: socket.socket, words: bytes) -> None:
    try:
        connection.send(words)
    except OSError:
        pass
    finally:
        connection.close()
