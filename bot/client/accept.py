"""The first response: a request comes in, is committed, and its user learns where it stands."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import discord

from bot.client.fetch_slots import FetchSlots
from bot.client.places import category_of, parent_of
from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.errors import FORESEEN
from bot.domain.job import Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import UserError
from bot.jobs.admission import Submission
from bot.jobs.compose import shaped_like
from bot.jobs.queue import JobQueue
from bot.jobs.with_picture import submit_with_picture
from bot.logs import job_context
from bot.messages.card import Card
from bot.messages.outcome import progress
from bot.messages.refusals import spoken
from bot.messages.status import waiting_status
from bot.pictures.headers import picture_shape
from bot.words import language
from storage import deliveries
from storage.clock import TOKEN_S
from storage.database import Database
from storage.images import ImageStore

log = logging.getLogger(__name__)

T = TypeVar("T")
Sizes = Mapping[str, tuple[int, int]]
"""Widths and heights in pixels, by aspect."""
PictureSource = Callable[[], Awaitable[bytes]]
"""Fetches the picture that a job starts from; raises `UserError` where it cannot be had."""

# Discord gives 3 s for the first response; a deferral that is late by two retries is lost.
DIRECT_ANSWER_S: Final = 0.7
# How long the answer waits for the job's place; past it the message says that a little later.
_PLACE_PATIENCE_S: Final = 0.4


def interaction_origin(interaction: discord.Interaction[Any]) -> Origin:
    """Return who asked through an interaction, and how to answer."""
    in_server = interaction.guild_id is not None
    if in_server:
        present = interaction.is_guild_integration() and interaction.app_permissions.view_channel
    else:
        present = bool(interaction.context.dm_channel)
    return Origin(
        source_id=f"i{interaction.id}",
        target=Target.INTERACTION,
        user_id=interaction.user.id,
        user_name=interaction.user.display_name,
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id,
        parent_channel_id=parent_of(interaction.channel),
        category_id=category_of(interaction.channel),
        application_id=interaction.application_id,
        token=interaction.token,
        token_expires_at=_expiry(interaction.expires_at.timestamp(), time.time()),
        locale=language(),
        bot_in_channel=present,
        role_ids=roles_of(interaction),
    )


def _expiry(by_discord: float, now: float) -> float:
    """Return when a token expires that has just come, by this machine's clock.

    A token that seems to be dead on arrival, or to live for longer than any, shows that this clock
    is off Discord's.
    """
    return by_discord if now < by_discord <= now + TOKEN_S else now + TOKEN_S


def roles_of(interaction: discord.Interaction[Any]) -> frozenset[int]:
    """Return the ids of the roles that an interaction's user has in a server that the bot is in."""
    # Elsewhere discord.py knows no roles, and nobody may set limits by them.
    member = interaction.user
    if not isinstance(member, discord.Member) or not interaction.is_guild_integration():
        return frozenset()
    return frozenset(role.id for role in member.roles)


def message_origin(message: discord.Message) -> Origin:
    """Return who asked through a direct message."""
    return Origin(
        source_id=f"m{message.id}",
        target=Target.MESSAGE,
        user_id=message.author.id,
        user_name=message.author.display_name,
        channel_id=message.channel.id,
        locale=language(),
    )


class Intake:
    """Commits requests and sends their first response."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        store: ImageStore,
        acknowledgements: Acknowledgements,
        slots: FetchSlots,
        *,
        log_prompts: bool = False,
    ) -> None:
        self._database = database
        self._queue = queue
        self._store = store
        self._acknowledgements = acknowledgements
        self._slots = slots
        self._log_prompts = log_prompts

    async def from_interaction(
        self,
        interaction: discord.Interaction[Any],
        request: ImageRequest,
        *,
        model: str | None = None,
        picture: PictureSource | None = None,
        sizes: Sizes | None = None,
    ) -> bool:
        """Accept a command's or button's request; raise `UserError` where it is refused.

        False: it was refused too late for that, and its user was told. The answer is direct where
        the commit takes less than 0.7 s, so that a refusal can be private; past that the
        interaction is deferred, which accepts nothing yet. `model` draws it (None: the configured
        one). `picture` fetches the picture that the job starts from; of the `sizes`, if any, the
        request gets that of the picture's shape.
        """
        origin = interaction_origin(interaction)
        with self._acknowledgements.sending(origin.source_id):
            task = asyncio.create_task(self._submit(request, origin, model, picture, sizes))
            await asyncio.wait({task}, timeout=DIRECT_ANSWER_S)
            if not task.done():
                await _lenient(
                    partial(interaction.response.defer, thinking=True, ephemeral=request.private)
                )
            try:
                submission = await task
            except UserError as error:
                if not interaction.response.is_done():
                    raise
                # A bot that stops may have closed its client by now.
                await _lenient(partial(interaction.edit_original_response, content=spoken(error)))
                return False
            await self._respond(interaction, submission, request)
            return True

    async def _respond(
        self, interaction: discord.Interaction[Any], submission: Submission, request: ImageRequest
    ) -> None:
        job_id = submission.job.id
        with job_context(job_id):
            if submission.repeated:
                log.info("the same interaction came twice; its job stands")
                return
            log.info("accepted for user %d by interaction", submission.job.user_id)
            self._log_prompt(submission.job)
            card = await self._first_card(submission)
            if interaction.response.is_done():
                message = await _lenient(
                    partial(interaction.edit_original_response, embed=card.embed, view=card.view())
                )
                message_id = message.id if message is not None else None
            else:
                reply = await _lenient(
                    partial(
                        interaction.response.send_message,
                        embed=card.embed,
                        view=card.view(),
                        ephemeral=request.private,
                    )
                )
                message_id = reply.message_id if reply is not None else None
            if message_id is None:
                # Discord may have taken it, and only its reply was lost.
                original = await _lenient(interaction.original_response)
                message_id = original.id if original is not None else None
            await self._remember(job_id, None, message_id)

    async def _submit(
        self,
        request: ImageRequest,
        origin: Origin,
        model: str | None,
        picture: PictureSource | None,
        sizes: Sizes | None,
    ) -> Submission:
        """Submit a request, once its input picture is safe on the disk.

        A picture is fetched only for a request that is not refused without it. Its shape is what
        its bytes say: labels that came with it may know nothing of how it is to be turned, and the
        engine does not see them.
        """
        if picture is None:
            return await self._queue.submit(request, origin, model=model)
        job_id = self._queue.new_job_id()

        async def prepare() -> ImageRequest:
            async with self._slots.reserve(origin.user_id):
                data = await picture()
                shape = await asyncio.to_thread(picture_shape, data) if sizes else None
                name = await self._store.inputs.keep(job_id, data)
            shaped = shaped_like(request, shape, sizes) if sizes and shape else request
            return shaped.with_changes(input_image=name)

        inputs = self._store.inputs
        return await submit_with_picture(
            self._queue, inputs, request, origin, prepare, job_id=job_id, model=model
        )

    async def from_message(
        self,
        message: discord.Message,
        request: ImageRequest,
        *,
        model: str | None = None,
        picture: PictureSource | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        """Accept a direct message's request, as `from_interaction` does an interaction's."""
        origin = message_origin(message)
        with self._acknowledgements.sending(origin.source_id):
            submission = await self._submit(request, origin, model, picture, sizes)
            with job_context(submission.job.id):
                if submission.repeated:
                    log.info("the same message came twice; its job stands")
                    return
                log.info("accepted for user %d by message", submission.job.user_id)
                self._log_prompt(submission.job)
                card = await self._first_card(submission)
                sent = await _lenient(
                    partial(
                        message.channel.send,
                        embed=card.embed,
                        view=card.view(),
                        nonce=f"{submission.job.id}p",
                        reference=message.to_reference(fail_if_not_exists=False),
                        mention_author=False,
                    )
                )
                if sent is not None:
                    await self._remember(submission.job.id, sent.channel.id, sent.id)

    async def settled(self) -> None:
        """Return when everybody who asked knows whether the request is accepted."""
        await self._acknowledgements.all_sent()

    def _log_prompt(self, job: Job) -> None:
        if self._log_prompts:
            log.info("prompt: %s", job.request.prompt)

    async def _first_card(self, submission: Submission) -> Card:
        place = await self._queue.standing.place(submission.job.id, _PLACE_PATIENCE_S)
        status = waiting_status(place, self._queue.control.paused)
        return progress(submission.job, status, model=self._queue.models.shown(submission.job))

    async def _remember(self, job_id: str, channel_id: int | None, message_id: int | None) -> None:
        if message_id is None:
            return
        try:
            await self._database.write(
                partial(
                    deliveries.set_message,
                    job_id=job_id,
                    channel_id=channel_id,
                    message_id=message_id,
                )
            )
        except sqlite3.Error:
            # The job stands; without the id its answer may come as a new message.
            log.exception("the message's id could not be stored")


async def _lenient(call: Callable[[], Awaitable[T]]) -> T | None:
    """Await a call to Discord whose failure loses nothing: the courier will find another way."""
    try:
        return await call()
    except FORESEEN as error:
        code = f"{error.status} {error.code}" if isinstance(error, discord.HTTPException) else ""
        log.warning("the first response failed: %s %s", type(error).__name__, code)
        return None
