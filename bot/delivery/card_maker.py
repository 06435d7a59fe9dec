"""The maker of cards: an ended job as a message, its pictures fitted into an upload limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from bot.catalogue.models import ModelSpec
from bot.delivery.errors import RungClosedError, TooLargeError
from bot.delivery.visibility import ShownIn, Visibility, why
from bot.domain.job import ImageRecord, Job
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.derive import Offers, offers
from bot.jobs.queue import JobQueue
from bot.messages.card import Card
from bot.messages.discord_limits import FILE_BYTES
from bot.messages.outcome import outcome, picked, withheld
from bot.messages.text import plain
from bot.messages.upload import Upload, fit_png, upload_limit
from bot.messages.written import written
from bot.rules.verdicts import Exposure
from bot.words import _
from storage.images import ImageStore

log = logging.getLogger(__name__)

T = TypeVar("T")

# What Pillow raises for a damaged file, besides its absence.
_BROKEN: Final = (OSError, SyntaxError, ValueError)
_SMALLEST_LIMIT: Final = 256 * 1024
_ALT_SHOWN: Final = 400


class CardMaker:
    """Makes the cards of ended jobs, each for the place where it is shown.

    `file_limit` gives the bytes that one file may have in a server, by the server's id, or outside
    of servers, by None. `models` are the offered ones by name.
    """

    def __init__(
        self,
        queue: JobQueue,
        store: ImageStore,
        visibility: Visibility,
        file_limit: Callable[[int | None], int],
        models: Mapping[str, ModelSpec],
    ) -> None:
        self._queue = queue
        self._store = store
        self._visibility = visibility
        self._file_limit = file_limit
        self._models = models

    async def exposure(self, job: Job, images: Sequence[ImageRecord], place: ShownIn) -> Exposure:
        """Return how openly these pictures of a job may be shown in a place."""
        return await self._visibility.exposure(job, images, place)

    async def fitted(self, job: Job, send: Callable[[Card], Awaitable[T]], place: ShownIn) -> T:
        """Send the card of an ended job to a place, smaller each time it raises `TooLargeError`.

        Each picture of a batch is a file of its own. Raises `RungClosedError` where not even the
        smallest is taken.
        """
        limit = upload_limit(job.request.count, self._file_limit(job.guild_id))
        while True:
            card = await self.card(job, place, limit)
            try:
                return await send(card)
            except TooLargeError as error:
                largest = max((len(upload.data) for upload in card.uploads), default=0)
                limit = min(limit, largest) // 2
                if limit < _SMALLEST_LIMIT:
                    raise RungClosedError(f"too large even when re-encoded ({error})") from error
                log.info("Discord refused the size; re-encoding to at most %d bytes", limit)

    async def card(self, job: Job, place: ShownIn, limit: int = FILE_BYTES) -> Card:
        """Build the message of an ended job for a place, its pictures of `limit` bytes at most."""
        if job.text is not None and job.deleted_at is None:
            return written(job, model=self._queue.models.shown(job))
        images = await self._queue.images(job.id)
        exposure = await self._visibility.exposure(job, images, place)
        if exposure in {Exposure.DM, Exposure.BLOCK}:
            return withheld(job, why(exposure, images))
        hidden = why(exposure, images) if exposure is Exposure.SPOILER else ""
        alt = await self._alt(job)
        uploads: list[Upload] = []
        for record in images:
            try:
                uploads.append(await asyncio.to_thread(self._fit, job, record, alt, limit))
            except _BROKEN:
                log.exception("picture %d of the job cannot be read", record.position)
        model, able = self._queue.models.shown(job), self._offers(job, images)
        return outcome(job, uploads, made=len(images), hidden=hidden, model=model, offers=able)

    async def single(self, job: Job, image: ImageRecord, place: ShownIn) -> Card:
        """Build the message of one picture of a batch for a place.

        Raises `JobNotFound` without its file, and `NotAllowed` where it may not be shown.
        """
        exposure = await self._visibility.exposure(job, [image], place)
        if exposure in {Exposure.DM, Exposure.BLOCK}:
            raise NotAllowed(why(exposure, [image]))
        hidden = why(exposure, [image]) if exposure is Exposure.SPOILER else ""
        alt = await self._alt(job)
        try:
            upload = await asyncio.to_thread(self._fit, job, image, alt, FILE_BYTES)
        except _BROKEN as error:
            log.exception("picture %d of the job cannot be read", image.position)
            raise JobNotFound(_("This picture's file is gone from the bot's disk.")) from error
        model, able = self._queue.models.shown(job), self._offers(job, [image])
        return picked(job, image, upload, hidden=hidden, model=model, offers=able)

    async def _alt(self, job: Job) -> str:
        """Return what screen readers say: what was written of the pictures, else the prompt."""
        return plain(await self._queue.alt_text(job.id) or job.request.prompt, _ALT_SHOWN)

    def _offers(self, job: Job, images: Sequence[ImageRecord]) -> Offers:
        return offers(job, images, self._models.get(self._queue.models.of(job)))

    def _fit(self, job: Job, record: ImageRecord, alt: str, limit: int) -> Upload:
        if job.request.count > 1:
            numbered = _("{number} of {count}: {prompt}")
            alt = numbered.format(number=record.position + 1, count=job.request.count, prompt=alt)
        return fit_png(self._store.read(record), f"{job.id}_{record.position}", alt, limit)
