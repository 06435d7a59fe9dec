"""What an engine child has said and nobody has read yet, wherever the child runs."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Final

from bot.engine.frames import Frame
from bot.errors import EngineError, EngineErrorKind
from bot.logs import job_context
from bot.logs.redact import Redactor

log = logging.getLogger("bot.engine.child")
_LINE_LENGTH: Final = 2000
_LEVELS: Final = (
    (re.compile(r"^Traceback|^\w[\w.]*(Error|Exception)\b|\b(ERROR|FATAL)\b"), logging.ERROR),
    (re.compile(r"warn|deprecat", re.IGNORECASE), logging.WARNING),
)


class ChildLink(ABC):
    """The parent's end of one child: its messages in order, then its end, for ever.

    What carries messages to the child, and ends it, is the subclass's.
    """

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame | EngineError | None] = asyncio.Queue()
        self._heard = time.monotonic()
        self._end: EngineError | None = None
        self._redactors: deque[Redactor] = deque(maxlen=2)
        self._job = "-"
        self.loaded = False
        """Whether the child has said that its model is ready."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The child's process id."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can come from the child."""
        return self._end is not None

    @abstractmethod
    async def send(self, kind: str, /, **fields: Any) -> None:
        """Send a message. A child that is gone shows in `receive`, not here."""

    @abstractmethod
    async def kill(self) -> None:
        """End the child at once and take back everything it held. Idempotent."""

    @abstractmethod
    async def close(self, patience: float) -> None:
        """Let the child end; kill it after `patience` seconds."""

    async def receive(self, limit: float, what: str) -> Frame | None:
        """Return the child's next message other than heartbeats; None after `wake`.

        Raises `EngineError`: `SILENT` after `limit` seconds (of doing `what`), `GARBLED`, `DIED`.
        """
        try:
            async with asyncio.timeout(limit):
                item = await self._frames.get()
        except TimeoutError:
            beat = time.monotonic() - self._heard
            raise EngineError(
                EngineErrorKind.SILENT,
                f"no progress in {limit:g} s of {what}; last sign of life {beat:.0f} s ago",
            ) from None
        if isinstance(item, EngineError):
            self._frames.put_nowait(item)  # every later call finds the end again
            raise EngineError(item.kind, item.detail)
        if item is not None:
            self._taken()
        return item

    def take_up(self, job: str, *texts: str) -> None:
        """Put `job` into the child's lines from now on, and keep these texts out of them.

        Those of the call before stay out too: pipes run late.
        """
        self._job = job
        self._redactors.append(Redactor(texts))

    def hidden(self, text: str) -> str:
        """Return `text` without what `take_up` was given."""
        for redact in self._redactors:
            text = redact(text)
        return text

    def wake(self) -> None:
        """Let the present or next `receive` return None."""
        self._frames.put_nowait(None)

    def take_unread(self) -> bool:
        """Drop what nobody waits for; return whether the child had sent messages unasked."""
        messages = False
        while not self._frames.empty() and not self.ended:
            item = self._frames.get_nowait()
            if isinstance(item, Frame):
                messages = True
                self._taken()
        return messages

    @abstractmethod
    def _taken(self) -> None:
        """Make room for another message: one was read."""

    def _finish(self, end: EngineError) -> None:
        if self._end is None:
            self._end = end
            self._frames.put_nowait(end)

    def _write_log(self, line: str) -> None:
        text = line.rstrip()
        if not text:
            return
        text = self.hidden(text)[:_LINE_LENGTH]
        level = next((level for pattern, level in _LEVELS if pattern.search(text)), logging.INFO)
        with job_context(self._job):
            log.log(level, "%s", text)
