"""The gallery: finished pictures, looked through, taken up again, deleted."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from bot.domain.ids import is_job_id, new_job_id
from bot.domain.job import ImageRecord, Job
from bot.errors import InvalidRequest, JobNotFound, NotAllowed
from bot.jobs.alt_jobs import end_alt_texts
from bot.jobs.queue import JobQueue
from bot.jobs.with_picture import kept_of
from bot.words import _
from storage import audit, gallery, jobs, privacy, reports, texts
from storage.database import Database, Transaction
from storage.images import ImageStore
from storage.input_pictures import GivenInputs

log = logging.getLogger(__name__)

_KEPT_TASKS: Final = 100
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and whether there are newer and older ones."""

    jobs: list[Job]
    newer: bool
    older: bool


class Gallery:
    """The finished jobs and their files."""

    def __init__(
        self,
        database: Database,
        store: ImageStore,
        queue: JobQueue,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._store = store
        self._queue = queue
        self.inputs = store.inputs
        """The files that jobs start from."""
        self._clock = clock
        self._keeping: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Finish deletions that a crash cut short, and drop pictures whose job never came to be."""
        for job_id in await self._database.read(gallery.half_deleted):
            await self._remove_files(job_id)
        there = sorted(await asyncio.to_thread(self._store.inputs.job_ids))
        known: set[str] = set()
        for start in range(0, len(there), _AT_ONCE):
            part = there[start : start + _AT_ONCE]
            known |= await self._database.read(partial(gallery.with_inputs, job_ids=part))
        if dropped := await self._store.inputs.sweep(known):
            log.info("dropped the pictures of %d requests that were never accepted", dropped)

    async def page(
        self,
        user_id: int,
        size: int,
        *,
        text: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> Page:
        """Return a user's pictures older than the job `before`, newer than `after`, or the newest.

        `text` filters by words of the prompt.
        """
        older = before is not None or after is None
        edge, found = before if older else after, list[Job]()
        while True:
            # In parts, so that a long history holds nothing else up.
            part = await self._database.read(
                partial(
                    gallery.part,
                    user_id=user_id,
                    limit=size + 1 - len(found),
                    text=text,
                    edge=edge,
                    older=older,
                )
            )
            found += part.jobs
            if len(found) > size or part.edge is None:
                break
            edge = part.edge
        jobs, more = found[:size], len(found) > size
        if older:
            return Page(jobs, before is not None, more)
        return Page(jobs[::-1], more, older=True)

    async def latest(self, user_id: int, text: str, limit: int) -> list[Job]:
        """Return a user's newest jobs whose id or prompt contains `text`."""
        return await self._database.read(
            partial(gallery.latest, user_id=user_id, text=text, limit=limit)
        )

    async def last_in_channel(self, user_id: int, channel_id: int) -> Job | None:
        """Return a user's newest finished picture of a channel; None where there is none."""
        return await self._database.read(
            partial(gallery.last_in_channel, user_id=user_id, channel_id=channel_id)
        )

    async def first_pictures(self, job_ids: Sequence[str]) -> list[ImageRecord | None]:
        """Return the first picture of each job; None where there is none."""
        found: list[ImageRecord | None] = []
        for job_id in job_ids:
            images = await self._database.read(partial(jobs.find_images, job_id=job_id))
            found.append(images[0] if images else None)
        return found

    def files(self, images: Iterable[ImageRecord | None]) -> Iterator[bytes | None]:
        """Yield the pictures' files one by one; None where one cannot be read. Blocking."""
        for image in images:
            try:
                yield None if image is None else self._store.read(image)
            except OSError as error:
                log.warning("a picture of job %s cannot be read: %s", image and image.job_id, error)
                yield None

    async def picture(self, job: Job, position: int) -> ImageRecord:
        """Return a picture of a job; raise `JobNotFound` when it is not there any more."""
        images = await self._database.read(partial(jobs.find_images, job_id=job.id))
        for image in images:
            if image.position == position and job.deleted_at is None:
                return image
        raise JobNotFound(_("This picture is no longer there."))

    async def read(self, image: ImageRecord) -> bytes:
        """Return a picture's file; raise `JobNotFound` when it is gone from the disk."""
        try:
            return await asyncio.to_thread(self._store.read, image)
        except OSError as error:
            log.warning("a picture of job %s cannot be read: %s", image.job_id, error)
            raise JobNotFound(_("This picture's file is gone from the bot's disk.")) from error

    async def read_inputs(self, job: Job) -> GivenInputs:
        """Return all that a job started from; raise `JobNotFound` when some of it is gone."""
        try:
            return await self._store.inputs.read(job.id, kept_of(job.request))
        except OSError as error:
            log.warning("the inputs of job %s cannot be read: %s", job.id, error)
            raise JobNotFound(
                _("The picture that this one was made from is no longer there.")
            ) from error

    def keep_for_later(
        self,
        user_id: int,
        fetch: Callable[[], Awaitable[bytes]],
        slot: AbstractAsyncContextManager[object],
    ) -> str:
        """Fetch a picture for a form that its user has open; return the key for `kept`.

        `slot` is held from before the first byte until the picture is stored.
        """
        key = new_job_id(self._clock())

        async def keep() -> None:
            async with slot:
                await self._store.form_pictures.keep(user_id, key, await fetch())

        task = asyncio.create_task(keep(), name=f"keep {key}")
        self._keeping[key] = task
        # Whoever takes it learns what went wrong; without a taker nobody has to.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        while len(self._keeping) > _KEPT_TASKS:
            self._keeping.pop(next(iter(self._keeping)))
        return key

    async def kept(self, user_id: int, key: str) -> bytes:
        """Return a picture kept for this very user; raise `JobNotFound` when it is gone."""
        gone = JobNotFound(_("The picture is no longer there; please choose it again."))
        if not is_job_id(key):
            raise gone
        if task := self._keeping.get(key):
            await task
        try:
            return await self._store.form_pictures.read(user_id, key)
        except OSError as error:
            raise gone from error

    async def note_posting(self, job_id: str, channel_id: int, message_id: int) -> None:
        """Remember a further message that shows a job's picture, to be deleted with it.

        Raises `JobNotFound` where the job was deleted meanwhile.
        """
        try:
            await self._database.write(
                partial(reports.post, job_id=job_id, channel_id=channel_id, message_id=message_id)
            )
        except sqlite3.IntegrityError as error:
            raise JobNotFound(_("This picture was deleted.")) from error

    async def delete(
        self, job: Job, *, by: int, moderator: bool = False, guild_id: int | None = None
    ) -> list[tuple[int, int]]:
        """Delete a job's pictures for its owner or a moderator; what it cost stays charged.

        Returns (channel, message) of what shows it, as far as that is recorded. A second time does
        no harm: a message that outlived the first can go too. Raises `NotAllowed`, or
        `InvalidRequest` while the job is open.
        """
        if job.user_id != by and not moderator:
            raise NotAllowed(
                _("Only the person who asked for this picture, or a moderator, can delete it.")
            )
        if not job.state.final:
            raise InvalidRequest(_("This job is not done yet; cancel it first."))
        now = self._clock()

        async def mark(tx: Transaction) -> None:
            await gallery.mark_deleted(tx, job.id, now)
            if job.user_id != by:
                await audit.record(
                    tx, now, actor_id=by, guild_id=guild_id, action="delete", target=job.id
                )

        await end_alt_texts(self._queue, [job.id], now, mark)
        await self._remove_files(job.id)
        log.info("job %s: its pictures were deleted by %d", job.id, by)
        return await self._database.read(partial(privacy.messages, job_ids=[job.id]))

    async def _remove_files(self, job_id: str) -> None:
        images = await self._database.read(partial(jobs.find_images, job_id=job_id))
        await self._store.drop(images)
        # What writes, or wrote, their alternative text has a copy of each.
        writing = await self._database.read(partial(texts.alt_jobs, job_ids=[job_id]))
        await self._store.inputs.forget([job_id, *writing])
        # The rows last: a crash before leaves them for the next start to find.
        await self._database.write(partial(gallery.forget_pictures, job_id=job_id))
