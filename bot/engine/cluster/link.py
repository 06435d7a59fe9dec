"""The link to an engine child on a node of a Ray cluster, by way of the driver process."""

from __future__ import annotations

import contextlib
from typing import Any, Final, Self

from typing_extensions import override

from bot.engine.cluster.hub import Hub
from bot.engine.frames import Frame, FrameError
from bot.engine.parent.inbox import Inbox
from bot.engine.parent.link import ChildLink
from bot.errors import EngineError, EngineErrorKind

_OPEN_S: Final = 120.0
_END_S: Final = 40.0
_UNREAD: Final = 1000
"""How much the messages may weigh that nobody has read: 32 MiB of tails, or 2 MiB of JSON."""
# A load whose job was cancelled goes on unwatched, and keeps reporting how far it is.
_UNREAD_PROGRESS: Final = 50


class RayLink(ChildLink):
    """The bot's end of a child on a node; the child is that of the engine numbered `engine`."""

    def __init__(self, hub: Hub, engine: int) -> None:
        super().__init__(Inbox(taken=self._make_room))
        self._hub = hub
        self._engine = engine
        self._link = hub.number()
        self._pid = 0
        self._unread = 0

    @classmethod
    async def start(cls, hub: Hub, engine: int) -> Self:
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
            self.inbox.finish(EngineError(EngineErrorKind.GARBLED, str(error)))

    @override
    async def kill(self) -> None:
        await self.close(0.0)

    @override
    async def close(self, patience: float) -> None:
        """End the child, within `patience` seconds or at once; nobody hears it from now on."""
        self._hub.listen(self._link, None)
        self.log.tell_left_out()
        self.inbox.finish(EngineError(EngineErrorKind.DIED, "the child was ended"))
        with contextlib.suppress(EngineError):
            await self._hub.call("end", _END_S, engine=self._engine, patience=patience)

    def _make_room(self, frame: Frame) -> None:
        self._unread -= frame.weight

    def _take(self, frame: Frame) -> None:
        """Take what the hub hands over, trusting none of it."""
        self.inbox.note_life()
        message = frame.header.get("message")
        if frame.type == "log":
            self.log.write(str(frame.header.get("text")))
        elif frame.type == "ended":
            try:
                kind = EngineErrorKind(frame.header.get("kind"))
            except ValueError:
                kind = EngineErrorKind.GARBLED
            detail = self.log.redacted(str(frame.header.get("detail"))[:500])
            self.inbox.finish(EngineError(kind, detail))
        elif not isinstance(message, dict) or not isinstance(message.get("type"), str):
            self.inbox.finish(EngineError(EngineErrorKind.GARBLED, "its message is none"))
        elif message["type"] == "loading" and self._unread >= _UNREAD_PROGRESS:
            pass  # There is enough to read already.
        elif self._unread + frame.weight > _UNREAD:
            self.inbox.finish(
                EngineError(EngineErrorKind.GARBLED, "it floods the bot with messages")
            )
        else:
            self._unread += frame.weight
            self.inbox.put(Frame(message, frame.tail, frame.header_bytes))
