"""The log lines of an engine child: what it wrote to stderr, without what users typed."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from bot.engine.parent.pace import Pace
from bot.logs import job_context
from bot.logs.redact import Redactor

log = logging.getLogger("bot.engine.child")
_LINE_LENGTH: Final = 2000
_LINE_BYTES: Final = 2**16
# More than a traceback has at once, and than a progress bar writes in the long run.
_LINES_A_SECOND, _LINES_AT_ONCE = 20.0, 300
# Past those the child is made to wait: reading on at any speed would be all that the loop does.
_FLOOD_BYTES_A_SECOND: Final = 2**20
_LEVELS: Final = (
    (re.compile(r"^Traceback|^\w[\w.]*(Error|Exception)\b|\b(ERROR|FATAL)\b"), logging.ERROR),
    (re.compile(r"warn|deprecat", re.IGNORECASE), logging.WARNING),
)


class ChildLog:
    """The lines of one child on their way into the bot's log, each under the job it belongs to.

    Of a flood so many lines are logged, and how many were left out. `clock` tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._redactors: deque[Redactor] = deque(maxlen=2)
        self._job = "-"
        self._pace = Pace(_LINES_A_SECOND, _LINES_AT_ONCE, clock)
        self._left_out = 0

    def take_up(self, job: str, *texts: str) -> None:
        """Put `job` into the child's lines from now on, and keep these texts out of them.

        The texts of the call before stay out too: pipes run late.
        """
        self._job = job
        self._redactors.append(Redactor(texts))

    def redacted(self, text: str) -> str:
        """Return `text` without what `take_up` was given."""
        for redact in self._redactors:
            text = redact(text)
        return text

    def write(self, line: str) -> None:
        """Log a line, at the level that its words suggest, or count it as left out."""
        text = line.rstrip()
        if not text:
            return
        if not self._pace.take():
            self._left_out += 1
            return
        self.tell_left_out()
        text = self.redacted(text)[:_LINE_LENGTH]
        level = next((level for pattern, level in _LEVELS if pattern.search(text)), logging.INFO)
        with job_context(self._job):
            log.log(level, "%s", text)

    def tell_left_out(self) -> None:
        """Log how many lines were left out since this was last done."""
        if self._left_out:
            with job_context(self._job):
                log.warning("%d lines left out: the engine writes too many", self._left_out)
            self._left_out = 0

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Log what comes from `stream`, line by line, until its end."""
        rest = b""
        while chunk := await stream.read(4096):
            # Progress bars end their lines with a carriage return.
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                self.write(line.decode("utf-8", "replace"))
            if len(rest) > _LINE_BYTES:
                self.write(rest.decode("utf-8", "replace"))
                rest = b""
            if self._left_out:
                await asyncio.sleep(len(chunk) / _FLOOD_BYTES_A_SECOND)
        self.write(rest.decode("utf-8", "replace"))
        self.tell_left_out()
