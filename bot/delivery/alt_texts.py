"""Alternative texts: a sentence about what is in a picture, written and added once it is sent.

Nobody waits for it: it is a job of its own in the queue, charged to whoever asked for the picture,
and its answer is one more edit of the picture's message. Done twice it changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.catalogue.writers import writer
from bot.delivery.card_maker import CardMaker
from bot.delivery.errors import RetryLaterError, RungClosedError
from bot.delivery.ladder import BY_DISCORD, POSTED, Ladder, Rung, Sent
from bot.delivery.visibility import DIRECT, ShownIn
from bot.domain.job import ImageRecord, Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.domain.writing import Writing
from bot.errors import UserError
from bot.jobs.alt_jobs import end_alt_texts
from bot.jobs.queue import JobQueue
from bot.jobs.with_picture import holding, submit_with_picture
from bot.messages.card import Card
from storage import deliveries, jobs, people, privacy
from storage.database import Database, Transaction
from storage.deliveries import Delivery, noted
from storage.images import ImageStore
from storage.input_pictures import GivenInputs
from storage.texts import alt_source

log: Final = logging.getLogger(__name__)


class AltTexts:
    """Asks for alternative texts, where they are `on`, and adds them to messages."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        store: ImageStore,
        cards: CardMaker,
        ladder: Ladder,
        models: Sequence[ModelSpec],
        *,
        on: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._store = store
        self._cards = cards
        self._ladder = ladder
        self._models = models if on else ()
        self._clock = clock

    async def ask(
        self, job: Job, images: Sequence[ImageRecord], sent: Sent, *, editable: bool
    ) -> None:
        """Ask for the text of pictures that were just sent; it is done without where refused.

        Without a message that is `editable` by the bot itself, nothing could be added.
        """
        drawn_with = next((one for one in self._models if one.name == job.model), None)
        spec = writer(self._models, drawn_with)  # which the engine still holds
        editable &= sent.message_id is not None and not job.request.private
        if spec is None or not images or not editable or job.target not in BY_DISCORD:
            return
        request = ImageRequest(
            prompt=job.request.prompt,
            seed=job.request.seed,
            parent=job.id,
            writes=Writing.ALT.value,
            references=tuple(f"reference{number}" for number, _ in enumerate(images, 1)),
        )
        inputs, job_id = self._store.inputs, self._queue.new_job_id()

        async def prepare() -> ImageRequest:
            files = [await asyncio.to_thread(self._store.read, image) for image in images]
            return holding(request, await inputs.keep(job_id, GivenInputs(references=tuple(files))))

        try:
            origin = await self._origin(job, sent)
            await submit_with_picture(
                *(self._queue, inputs, request, origin, prepare), job_id=job_id, model=spec.name
            )
            if _is_gone(await self._queue.job(job.id)):
                # Whoever deleted the pictures meanwhile knew of nothing that writes about them.
                await end_alt_texts(self._queue, [job.id], self._clock())
                await inputs.forget([job_id])
        except (UserError, OSError, sqlite3.Error) as error:
            log.info("no alternative text is written: %s", type(error).__name__)
        except Exception:  # The answer stands, whatever comes of this.
            log.exception("no alternative text is written")

    async def _origin(self, job: Job, sent: Sent) -> Origin:
        # The name as it is known: whoever had it forgotten meanwhile stays so but for the id.
        name = await self._database.read(partial(people.name_of, user_id=job.user_id))
        return Origin(
            source_id=alt_source(job.id),
            target=Target.CLI,  # No door of a user's: nobody is answered.
            user_id=job.user_id,
            user_name=name or "",
            guild_id=job.guild_id,
            channel_id=sent.channel_id,
            message_id=sent.message_id,
            parent_channel_id=job.parent_channel_id,
            locale=job.locale,
        )

    async def add(
        self, delivery: Delivery, job: Job, tired: str | None = None
    ) -> RetryLaterError | None:
        """Add the text of a job to the message of its pictures, and count it as delivered.

        Returns why that is to be tried again. A message that is gone, or cannot be edited, stays as
        it is; so does it where it was tried for too long, which is what `tired` says.
        """
        await self._forget_copies(job, surely=tired is None)
        intended = await self._database.write(
            partial(
                deliveries.intend,
                job_id=job.id,
                rung=Rung.EDIT,
                now=self._clock(),
                error=delivery.error,
            ),
            first=True,
        )
        if intended is None:
            return None
        drawn = await self._queue.job(job.parent_id or "")
        if job.text and drawn is not None and not _is_gone(drawn) and tired is None:
            answer = await self._database.read(partial(deliveries.get, job_id=drawn.id))
            posted = answer is not None and answer.rung in POSTED
            place = ShownIn.of_job(drawn) if drawn.channel_id == job.channel_id else DIRECT

            async def send(card: Card) -> Sent:
                kept = replace(card, mention=drawn.user_id if posted else None)
                return await self._ladder.send(Rung.EDIT, delivery, kept, intended)

            try:
                await self._cards.fitted(drawn, send, place)
            except RungClosedError as error:
                log.info("the alternative text is not added (%s)", error)
            except RetryLaterError as error:
                return error
        await self._database.write(partial(self._settle, delivery, job, tired), first=True)
        return None

    async def _forget_copies(self, job: Job, *, surely: bool) -> None:
        """Delete a job's copies of the pictures, which an ended one needs no more.

        Before anything is recorded: where the process dies then, they are not left for good.
        """
        try:
            await self._store.inputs.forget([job.id])
        except OSError as error:
            if surely:
                raise
            log.warning("the copies of the pictures stay (%s)", error.strerror)

    async def _settle(
        self, delivery: Delivery, job: Job, tired: str | None, tx: Transaction
    ) -> None:
        if tired is None:
            sent = delivery.channel_id
            await deliveries.delivered(tx, job.id, self._clock(), sent, message_id=None)
        else:
            trail = noted(delivery.error, "given up", tired)
            await deliveries.undeliverable(tx, job.id, trail)
        if await jobs.find(tx, job.parent_id or "") is None:
            # It was told to stop when that was deleted, and is as much its user's data.
            await privacy.forget_jobs(tx, [job.id])


def _is_gone(drawn: Job | None) -> bool:
    return drawn is None or drawn.deleted_at is not None
