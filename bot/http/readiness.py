"""Whether the database answers, asked at most every other second however many want to know."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from storage import metrics
from storage.database import Database

log = logging.getLogger(__name__)

FRESH_S: Final = 2.0
"""Seconds that an answer counts."""
PATIENCE_S: Final = 2.0
"""Seconds after which a database that says nothing counts as one that does not answer."""


class DatabaseCheck:
    """The state of one database; anyone may ask for it, without a key."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = 0.0
        self._well = True

    async def answers(self) -> bool:
        """Say whether the database answers, or did so a moment ago."""
        asking = self._asking
        if asking is None or (asking.done() and self._clock() - self._asked_at >= FRESH_S):
            self._asked_at = self._clock()
            asking = self._asking = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({asking}, timeout=PATIENCE_S)
        return bool(done) and asking.result()

    async def _ask(self) -> bool:
        try:
            await self._database.read(metrics.depth)
        except sqlite3.Error:
            if self._well:  # Once, not each time.
                log.exception("the database does not answer")
            self._well = False
        else:
            self._well = True
        return self._well
