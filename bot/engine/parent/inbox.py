"""The inbox of an engine child: what it has said and nobody has read yet, then its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bot.engine.frames import Frame
from bot.errors import EngineError, EngineErrorKind

_TICK_S: Final = 1.0
# A wait that takes so much longer than it was to take was not the child's doing.
_LATE_S: Final = 0.25
# So much of the time between two messages counts as waiting, whatever it was spent on: whoever
# floods the bot keeps it from ever waiting.
_BETWEEN_S: Final = 0.1


class Inbox:
    """The messages of one child in order, then its end, forever.

    `taken` is called with each message that is read: there is room for another one.
    """

    def __init__(self, taken: Callable[[Frame], None]) -> None:
        self._taken = taken
        self._items: asyncio.Queue[Frame | EngineError | None] = asyncio.Queue()
        self._heard = time.monotonic()
        self._end: EngineError | None = None
        self.waited = 0.0
        """Seconds from the `receive` before the last one to the last, as they count: see there."""
        self._returned = time.monotonic()

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

    async def receive(
        self, limit: float, what: str, *, whole_limit: float | None = None
    ) -> Frame | None:
        """Return the child's next message other than heartbeats; None after `wake`.

        Raises `EngineError`: `SILENT` after `limit` seconds (of doing `what`; `whole_limit` is what
        they are the rest of), `GARBLED`, `DIED`.

        Only seconds count in which this process could have heard the child. While it was stopped,
        the machine slept or something held the loop, what the child said stayed in the pipe.
        """
        between = min(_BETWEEN_S, time.monotonic() - self._returned)
        try:
            return await self._next(limit, what, limit if whole_limit is None else whole_limit)
        finally:
            self.waited += between
            self._returned = time.monotonic()

    async def _next(self, limit: float, what: str, whole_limit: float) -> Frame | None:
        self.waited, grace = 0.0, limit
        while True:
            tick = max(0.0, min(_TICK_S, limit - self.waited))
            begun = time.monotonic()
            try:
                async with asyncio.timeout(tick):
                    item = await self._items.get()
            except TimeoutError:
                late = time.monotonic() - begun - tick > max(_LATE_S, tick)
                if late and grace > 0:
                    grace -= tick
                    continue
                self.waited += tick
                # What came last is read by another task, which has its turn now.
                await asyncio.sleep(0)
                if self.waited < limit or not self._items.empty():
                    continue
                detail = f"no progress in {whole_limit:g} s of {what}; last sign of life"
                beat = time.monotonic() - self._heard
                raise EngineError(EngineErrorKind.SILENT, f"{detail} {beat:.0f} s ago") from None
            self.waited += min(tick, time.monotonic() - begun)
            break
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
