"""The hub, the bot's end of the driver process: calls, answers, messages to and from engines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Self

from bot.engine.frames import Frame
from bot.engine.parent.environment import child_environment
from bot.engine.parent.pipe import PipeLink, own_command
from bot.errors import EngineError, EngineErrorKind, StartupError

_ADDRESS: Final = re.compile(r"\S+:[0-9]{1,5}")
_COMMAND: Final = (sys.executable, "-m", "bot.engine.cluster.driver")
_REACH_S: Final = 10.0
_JOIN_S: Final = 90.0
SILENT_S: Final = 30.0
"""Seconds without a sign of life after which a node counts as hung: many beats of its actor."""
_CLOSE_PATIENCE_S: Final = 5.0
# The longest names a node's files, which are 2,000 of each kind at most.
_HEADER_LIMIT: Final = 2**20
_FOR_EVER_S: Final = 24 * 3600.0
Listener = Callable[[Frame], None]


def driver_environment() -> dict[str, str]:
    """Return the driver's environment: an engine child's, and Ray's own settings.

    Ray's settings may hold Ray's own token; the bot's token is not among them.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("RAY_") and name != "RAY_ADDRESS"
    }
    return {**child_environment(), **ours}


def require_ray(address: str | None) -> None:
    """Raise `StartupError` where Ray is not installed or the address is of the wrong kind."""
    if importlib.util.find_spec("ray") is None:
        raise StartupError(
            "ENGINES=ray needs a package that is not installed: pip install -r "
            "requirements-ray.txt, or the bot with its extra `ray`"
        )
    if address and "://" in address:
        raise StartupError(
            "RAY_ADDRESS is the address of the cluster's head node, such as 10.0.0.1:6379; the Ray "
            "client (ray://) cannot carry pictures as they are drawn."
        )
    if address and not _ADDRESS.fullmatch(address):
        raise StartupError("RAY_ADDRESS is a host and a port, such as 10.0.0.1:6379.")


async def _reach(address: str) -> None:
    """Raise `StartupError` where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
    except (OSError, OverflowError) as error:  # TimeoutError is an OSError
        raise StartupError(f"No Ray cluster can be reached at {address}.") from error


class Hub:
    """A driver process that has joined the cluster. It is never started again: make another hub."""

    def __init__(self, link: PipeLink) -> None:
        self._link = link
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._listeners: dict[int, Listener] = {}
        self.ended = asyncio.Event()
        """Set when the driver is gone, and all engines with it."""
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, address: str | None, *, silent_s: float = SILENT_S) -> Self:
        """Start a driver and join the cluster at `address`, or have it start a local one.

        Raises `StartupError` when that fails.
        """
        if address:
            await _reach(address)
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        try:
            command = own_command(_COMMAND)
            link = await PipeLink.start(command, driver_environment(), _HEADER_LIMIT)
        except OSError as error:
            raise StartupError(f"The Ray driver cannot start: {error.strerror}.") from error
        try:
            await link.send("join", address=address or None, silent_s=silent_s)
            frame = await link.inbox.receive(_JOIN_S, "joining")
        except EngineError as error:
            await link.kill()
            raise StartupError(f"Joining {where} failed: {error.detail}.") from error
        except asyncio.CancelledError:
            await link.kill()
            raise
        if frame is None or frame.type != "joined":
            detail = str(frame and frame.header.get("detail"))[:400].rstrip(".")
            await link.close(_CLOSE_PATIENCE_S)
            hint = " This machine must be a node of it, with its token (docs/ray.md)."
            raise StartupError(f"Joining {where} failed: {detail}.{hint if address else ''}")
        hub = cls(link)
        hub._reader = asyncio.create_task(hub._read(), name="ray-hub")
        return hub

    @property
    def pid(self) -> int:
        """The driver's process id."""
        return self._link.pid

    def number(self) -> int:
        """Return a number that no engine, link or call of this hub has had."""
        return next(self._numbers)

    async def call(self, do: str, limit_s: float, **fields: Any) -> Any:
        """Have the driver do something; raise `EngineError` (`DIED`) when it cannot."""
        if self.ended.is_set():
            raise EngineError(EngineErrorKind.DIED, "the Ray driver has ended")
        number = self.number()
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                await self._link.send("call", call=number, do=do, **fields)
                return await answer
        except TimeoutError:
            raise EngineError(EngineErrorKind.DIED, f"no answer to {do!r} in time") from None
        finally:
            self._calls.pop(number, None)

    async def post(self, engine: int, link: int, message: dict[str, Any]) -> None:
        """Send a message to an engine's child."""
        await self._link.send("to", engine=engine, link=link, message=message)

    def listen(self, link: int, listener: Listener | None) -> None:
        """Hand what the child of this link says to `listener`; None: to nobody any longer."""
        if listener is None:
            self._listeners.pop(link, None)
        else:
            self._listeners[link] = listener

    async def close(self) -> None:
        """Leave the cluster. Idempotent."""
        await self._link.close(_CLOSE_PATIENCE_S)
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def _read(self) -> None:
        try:
            while True:
                try:
                    frame = await self._link.inbox.receive(_FOR_EVER_S, "waiting")
                except EngineError as error:
                    if error.kind is EngineErrorKind.SILENT:
                        continue
                    self._lose(error.detail)
                    return
                if frame is not None:
                    self._take(frame)
        finally:
            await self._link.kill()

    def _take(self, frame: Frame) -> None:
        header = frame.header
        if frame.type == "reply":
            answer = self._calls.get(_whole(header.get("call")))
            if answer is None or answer.done():
                return
            if "error" in header:
                detail = str(header["error"])[:400]
                if header.get("missing"):
                    detail = "its Ray does not find the bot's code (PYTHONPATH, see docs/ray.md)"
                answer.set_exception(EngineError(EngineErrorKind.DIED, detail))
            else:
                answer.set_result(header.get("value"))
            return
        listener = self._listeners.get(_whole(header.get("link")))
        if listener is not None:
            listener(frame)

    def _lose(self, why: str) -> None:
        self.ended.set()
        lost = EngineError(EngineErrorKind.DIED, f"the Ray driver has ended: {why}")
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(lost)
        ended = {"type": "ended", "kind": lost.kind.value, "detail": lost.detail}
        for listener in list(self._listeners.values()):
            with contextlib.suppress(Exception):
                listener(Frame(ended))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else -1
