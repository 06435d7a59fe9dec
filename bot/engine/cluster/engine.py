"""An engine whose child runs on a node of a Ray cluster."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from typing_extensions import override

from bot.engine.cluster.hub import Hub
from bot.engine.frames import Frame, FrameError
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.link import ChildLink
from bot.engine.parent.process import EngineProcess
from bot.errors import EngineError, EngineErrorKind

_OPEN_S: Final = 120.0
_END_S: Final = 40.0
_UNREAD: Final = 1000
# A load that was cancelled goes on for nobody, and tells how far it is all the while.
_UNREAD_PROGRESS: Final = 50


class RayEngine(EngineProcess):
    """An `Engine` on one GPU of the cluster: `EngineProcess` with its child on that node.

    The actor there is made again when it has died, for as long as the node lives.
    """

    def __init__(
        self,
        model: str,
        *,
        options: EngineOptions,
        hub: Hub,
        node: str,
        limits: SilenceLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(
            model, options=options, limits=limits, backoff=backoff, connect=self._reach
        )
        self._hub = hub
        self._node = node
        self._number = hub.number()

    async def claim(self) -> dict[str, Any]:
        """Take a GPU of the node; return what the node has (see fingerprint.py).

        Raises `EngineError` when there is none that is free, or the node does not answer.
        """
        report = await self._hub.call(
            "claim",
            _OPEN_S,
            engine=self._number,
            node=self._node,
            model_path=str(self._options.model_path),
            lora_path=str(self._options.lora_path),
        )
        if not isinstance(report, dict):
            raise EngineError(EngineErrorKind.GARBLED, "the node does not say what it has")
        return report

    @override
    async def close(self) -> None:
        await super().close()
        with contextlib.suppress(EngineError):
            await self._hub.call("release", _END_S, engine=self._number)

    async def _reach(self) -> ChildLink:
        return await RayLink.start(self._hub, self._number)


class RayLink(ChildLink):
    """The bot's end of a child on a node."""

    def __init__(self, hub: Hub, engine: int) -> None:
        super().__init__()
        self._hub = hub
        self._engine = engine
        self._link = hub.number()
        self._pid = 0
        self._unread = 0

    @classmethod
    async def start(cls, hub: Hub, engine: int) -> RayLink:
        """Start a child on the engine's node; raise `EngineError` when that fails."""
        link = cls(hub, engine)
        hub.listen(link._link, link._take)
        try:
            link._pid = int(await hub.call("open", _OPEN_S, engine=engine, link=link._link))
        except BaseException:
            hub.listen(link._link, None)
            raise
        return link

    @property
    @override
    def pid(self) -> int:
        return self._pid

    @override
    async def send(self, kind: str, /, **fields: Any) -> None:
        try:
            await self._hub.post(self._engine, self._link, {"type": kind, **fields})
        except FrameError as error:
            self._finish(EngineError(EngineErrorKind.GARBLED, str(error)))

    @override
    async def kill(self) -> None:
        await self.close(0.0)

    @override
    async def close(self, patience: float) -> None:
        """End the child, politely where there is patience; what it says from now on is unheard."""
        self._hub.listen(self._link, None)
        if not self.ended:
            self._finish(EngineError(EngineErrorKind.DIED, "the child was ended"))
        with contextlib.suppress(EngineError):
            await self._hub.call("end", _END_S, engine=self._engine, patience=patience)

    @override
    def _taken(self) -> None:
        self._unread -= 1

    def _take(self, frame: Frame) -> None:
        """Take what the hub hands over; nothing in it is taken on trust."""
        self._heard = time.monotonic()
        message = frame.header.get("message")
        if frame.type == "log":
            self._write_log(str(frame.header.get("text")))
        elif frame.type == "ended":
            try:
                kind = EngineErrorKind(frame.header.get("kind"))
            except ValueError:
                kind = EngineErrorKind.GARBLED
            detail = self.hidden(str(frame.header.get("detail"))[:500])
            self._finish(EngineError(kind, detail))
        elif not isinstance(message, dict) or not isinstance(message.get("type"), str):
            self._finish(EngineError(EngineErrorKind.GARBLED, "its message is none"))
        elif message["type"] == "loading" and self._unread >= _UNREAD_PROGRESS:
            pass  # There is news enough to read.
        elif self._unread >= _UNREAD:
            self._finish(EngineError(EngineErrorKind.GARBLED, "it floods the bot with messages"))
        else:
            self._unread += 1
            self._frames.put_nowait(Frame(message, frame.tail))
