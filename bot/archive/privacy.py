"""A user's data: handed out as ZIP files, deleted, or dropped when it is old."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bot.archive.export import Exported, export
from bot.errors import JobNotFound
from bot.jobs.alt_jobs import end_alt_texts
from bot.jobs.queue import JobQueue
from bot.rules.preferences import Preferences
from bot.words import _
from storage import exports, form_states, jobs, privacy, texts
from storage.clock import held_time
from storage.database import Database, Transaction
from storage.exports import Place
from storage.images import ImageStore

log = logging.getLogger(__name__)

DAY_S: Final = 24 * 3600
_AT_ONCE: Final = 200
_INDEX: Final = re.compile(r"[0-9]{1,3}")
_PAUSE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion took away, and the messages that may go too, as (channel, message)."""

    jobs: int
    still_open: int
    messages: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


class Privacy:
    """Exports, deletions, and the daily sweep."""

    def __init__(
        self,
        database: Database,
        store: ImageStore,
        preferences: Preferences,
        queue: JobQueue,
        *,
        keep_days: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._store = store
        self._preferences = preferences
        self._queue = queue
        self._keep_days = keep_days
        self._clock = clock

    def export(
        self, user_id: int, limit: int, after: Place | None = None
    ) -> AsyncGenerator[Exported]:
        """Yield a user's data as ZIP files of at most `limit` bytes; see `bot.archive.export`."""
        return export(self._database, self._store, user_id, limit, after)

    async def place(self, user_id: int, text: str) -> Place:
        """Return the place that `str(Exported.reached)` named; raise `JobNotFound` without it."""
        job_id, dot, index = text.strip().strip("`").lower().partition(".")
        created_at = await self._database.read(
            partial(exports.created_at, user_id=user_id, job_id=job_id)
        )
        if created_at is None or (dot and not _INDEX.fullmatch(index)):
            raise JobNotFound(
                _(
                    "None of your exports stopped at that place. Please use the word that "
                    "the last export gave you."
                )
            )
        return Place(created_at, job_id, int(index) if dot else None)

    async def jobs_left(self, user_id: int, reached: Place | None) -> int:
        """Return how many of a user's jobs an export that came so far does not hold as a whole."""
        return await self._database.read(
            partial(exports.jobs_left, user_id=user_id, reached=reached)
        )

    async def delete(self, user_id: int) -> Deleted:
        """Delete a user's ended jobs, files, settings and name; open jobs have to end first.

        Those that write alternative texts are cancelled: nobody else knows of them.
        """
        count, messages = 0, list[tuple[int, int]]()
        awaiting = await self._database.read(partial(texts.awaiting_alt, user_id=user_id))
        await end_alt_texts(self._queue, awaiting, self._clock())
        final = partial(privacy.final_jobs, user_id=user_id, limit=_AT_ONCE)
        while job_ids := await self._database.read(final):
            messages += await self._forget(job_ids, copies=True)
            count += len(job_ids)
        still_open = await self._database.read(partial(privacy.open_job_ids, user_id=user_id))
        await self._store.form_pictures.forget(user_id)
        await self._database.write(partial(form_states.forget, user_id=user_id))
        if not still_open:
            await self._database.write(partial(privacy.forget_user, user_id=user_id))
            self._preferences.remembered.forget("users", user_id)
        await self._database.scrub()
        log.info("deleted the data of user %d: %d jobs", user_id, count)
        return Deleted(count, len(still_open), messages)

    async def run(self) -> None:
        """Sweep once an hour until cancelled."""
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("old data could not be swept; tried again in an hour")
            await asyncio.sleep(_PAUSE_S)

    async def sweep(self) -> int:
        """Delete jobs older than they are to be kept, and what the ledger no longer needs.

        Ages are taken at a time which the clock has gone on from for a day, so that a clock that
        leaps ahead deletes nothing (`storage.clock`).
        """
        await self._store.form_pictures.sweep()
        now = await self._database.write(partial(held_time, now=self._clock()))
        if now is None:
            return 0
        await self._database.write(partial(form_states.forget_expired, now=now))
        before = now - privacy.LEDGER_DAYS * DAY_S
        await self._database.write(partial(privacy.prune_ledger, before=before))
        if not self._keep_days:
            return 0
        swept = 0
        while True:
            job_ids = await self._database.read(
                partial(privacy.outdated, before=now - self._keep_days * DAY_S, limit=_AT_ONCE)
            )
            if not job_ids:
                break
            await self._forget(job_ids)
            swept += len(job_ids)
        if swept:
            await self._database.scrub()
            log.info("swept %d jobs older than %d days", swept, self._keep_days)
        return swept

    async def _forget(
        self, job_ids: Sequence[str], *, copies: bool = False
    ) -> list[tuple[int, int]]:
        """Delete jobs with their files; return (channel, message) of all that shows them.

        With `copies` also what others' ended jobs hold of their pictures, byte by byte the same:
        those that they were made from. Jobs that still wait for it keep it.
        """
        drawn: set[str] = set()
        for job_id in job_ids:
            images = await self._database.read(partial(jobs.find_images, job_id=job_id))
            drawn.update(image.sha256 for image in images)
            await self._store.drop(images)
        inputs = self._store.inputs
        # The copies, too, of what writes an alternative text and was told to stop.
        writing = await self._database.read(partial(texts.alt_jobs, job_ids=job_ids))
        await inputs.forget([*job_ids, *writing])
        if copies and drawn and (holders := await asyncio.to_thread(inputs.holders, drawn)):
            ended = await self._database.read(partial(privacy.ended, job_ids=holders))
            await inputs.drop_copies(drawn, ended)

        async def forget(tx: Transaction) -> list[tuple[int, int]]:
            # Together: an answer that arrives in between would be nobody's to delete.
            messages = await privacy.messages(tx, job_ids)
            await privacy.forget_jobs(tx, job_ids)
            return messages

        # The rows last: a crash before leaves them for another time.
        return await self._database.write(forget)
