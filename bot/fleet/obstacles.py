"""Obstacles to all of an engine's jobs: a model that does not load, a disk that takes no picture.

Neither is the fault of the job in hand, which goes back; nothing is started meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable
from typing import Final

from bot.domain.job import Job
from bot.errors import EngineError, EngineErrorKind
from bot.errors.disk import HELD
from bot.jobs.feed import JobUpdate
from bot.jobs.queue import JobQueue
from bot.jobs.tasks import RETRY_LIMIT_S, until_stored
from bot.words import _, mark
from storage.images import ImageStore

log = logging.getLogger(__name__)

LOAD_FACTOR, DOUBLINGS = 5.0, 6
CRASHES: Final = frozenset(
    {
        EngineErrorKind.DIED,
        EngineErrorKind.SILENT,
        EngineErrorKind.OVERTIME,
        EngineErrorKind.GARBLED,
    }
)
NOT_LOADED: Final = mark("It could not be loaded.")


class Obstacles:
    """What keeps one engine's worker from starting jobs, and for how long."""

    def __init__(self, queue: JobQueue, store: ImageStore, retry_s: float) -> None:
        self._queue = queue
        self._store = store
        self._retry_s = retry_s
        self._load_failures = 0
        self._load_pause_s = 0.0
        self._refused = False
        self._refusals = 0

    @property
    def pausing(self) -> bool:
        """Whether no job is taken since the model did not load or the disk refuses pictures."""
        return self._refused or self._load_pause_s > 0

    def loaded(self) -> None:
        """Note that the model was loaded."""
        self._load_failures = 0

    def cleared(self) -> None:
        """Note that a job was drawn and its pictures kept."""
        self._load_failures = self._refusals = 0

    async def wait(self) -> None:
        """Wait until it is worth trying again."""
        if self._refused:
            await self._wait_for_room()
        if self._load_pause_s:
            await asyncio.sleep(self._load_pause_s)
            self._load_pause_s = 0.0

    def end(self) -> None:
        """Let go of the queue, which this may hold."""
        self._queue.control.hold(self, None)

    async def disk_refused(self, job: Job, reason: str, detail: str) -> None:
        """Put a job back whose pictures the disk did not take: no fault of its own."""
        log.error("job %s goes back: %s (%s)", job.id, reason, detail)
        self._refused = True
        self._refusals = min(self._refusals + 1, DOUBLINGS)
        # Whoever waits reads it in their own language: it is looked up where it is shown.
        self._queue.control.hold(self, HELD.get(reason, reason))
        await self._give_back(job)

    async def _wait_for_room(self) -> None:
        """Start nothing until pictures can be written again."""
        # Longer each time also where the disk always has room for the trial, and not for pictures.
        tries = self._refusals - 1
        while self._refused:
            await asyncio.sleep(min(self._retry_s * 2**tries, RETRY_LIMIT_S))
            tries = min(tries + 1, DOUBLINGS)
            try:
                await self._store.try_writing()
            except OSError as error:
                log.error("pictures cannot be written yet: %s", error.strerror)
            else:
                self._refused = False
        log.info("pictures can be written again")
        self._queue.control.hold(self, None)

    async def not_loaded(self, job: Job, error: EngineError) -> None:
        """Put the job back: it is not its fault, and every other one would meet the same."""
        self._load_failures += 1
        await noted(self._queue.forecast.note_load_failure(error.detail))
        if error.kind in CRASHES and self._load_failures == 1:
            # Chance ends a process too (memory that another program took): at once, but only once.
            log.warning("the model did not load (%s); it is tried again", error.detail)
            await self._give_back(job)
            return
        doubled = 2 ** min(self._load_failures, DOUBLINGS)
        self._load_pause_s = pause = self._retry_s * LOAD_FACTOR * doubled
        log.warning("the model does not load (%s); next try in %.0f s", error.detail, pause)
        await self._give_back(job)
        sentence = error.spoken() or _(NOT_LOADED)
        again = _("Next try in {seconds} s.").format(seconds=f"{pause:.0f}")
        self._queue.feed.publish(JobUpdate(job.id, "loading", stage=f"{sentence} {again}"))

    async def _give_back(self, job: Job) -> None:
        await until_stored(lambda: self._queue.commits.give_back(job), self._retry_s)


async def noted(noting: Awaitable[None]) -> None:
    """Await the storing of something that helps, and that nothing depends on."""
    try:
        await noting
    except sqlite3.Error:
        log.warning("what came of loading could not be stored", exc_info=True)
