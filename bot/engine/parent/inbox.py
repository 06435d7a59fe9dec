"""The inbox of an engine child: what it has said and nobody has read yet, then its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bot.engine.frames import Frame
from bot.errors import EngineError, EngineErrorKind


class Inbox:
    """The messages of one child in order, then its end, forever.

    `taken` is called with each message that is read: there is room for another one.
    """

    def __init__(self, taken: Callable[[Frame], None]) -> None:
        self._taken = taken
        self._items: asyncio.Queue[Frame | EngineError | None] = asyncio.Queue()
        self._heard = time.monotonic()
        self._end: EngineError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more can come from the child."""
        return self._end is not None

    def note_life(self) -> None:
        """Remember that the child has just given a sign of life."""
        self._heard = time.monotonic()

    def put(self, frame: Frame) -> None:
        """Append a message."""
        self._items.put_nowait(frame)

    def finish(self, end: EngineError) -> None:
        """Append the child's end, unless it has one already."""
        if self._end is None:
            self._end = end
            self._items.put_nowait(end)

    def wake(self) -> None:
        """Let the present or next `receive` return None."""
        self._items.put_nowait(None)

    async def receive(self, limit: float, what: str) -> Frame | None:
        """Return the child's next message other than heartbeats; None after `wake`.

        Raises `EngineError`: `SILENT` after `limit` seconds (of doing `what`), `GARBLED`, `DIED`.
        """
        try:
            async with asyncio.timeout(limit):
                item = await self._items.get()
        except TimeoutError:
            beat = time.monotonic() - self._heard
            raise EngineError(
                EngineErrorKind.SILENT,
                f"no progress in {limit:g} s of {what}; last sign of life {beat:.0f} s ago",
            ) from None
        if isinstance(item, EngineError):
            self._items.put_nowait(item)  # every later call finds the end again
            raise EngineError(item.kind, item.detail)
        if item is not None:
            self._taken(item)
        return item

    def take_unread(self) -> bool:
        """Drop what nobody waits for; return whether the child has sent messages unasked."""
        messages = False
        while not self._items.empty() and not self.ended:
            item = self._items.get_nowait()
            if isinstance(item, Frame):
                messages = True
                self._taken(item)
        return messages
