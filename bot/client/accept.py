"""The first response: a request comes in, is committed, and its user learns where it stands."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import discord

from bot.client.fetch_slots import FetchSlots
from bot.client.places import category_of, parent_of
from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.errors import FORESEEN
from bot.delivery.visibility import ShownIn, Visibility
from bot.domain.job import Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import UserError
from bot.jobs.admission import Submission
from bot.jobs.compose import shaped_like
from bot.jobs.queue import JobQueue
from bot.jobs.with_picture import holding, submit_with_picture
from bot.logs import job_context
from bot.messages.card import Card
from bot.messages.layout import edit_of, message_of
from bot.messages.outcome import progress
from bot.messages.refusals import spoken
from bot.messages.status import waiting_status
from bot.pictures.headers import picture_shape
from bot.words import _, language
from storage import deliveries
from storage.clock import TOKEN_S
from storage.database import Database
from storage.images import ImageStore
from storage.input_pictures import GivenInputs

log = logging.getLogger(__name__)

T = TypeVar("T")
Sizes = Mapping[str, tuple[int, int]]
"""Widths and heights in pixels, by aspect."""
PictureSource = Callable[[], Awaitable[bytes]]
"""Fetches the picture that a job starts from; raises `UserError` where it cannot be had."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files that a job starts from, and the request as they shape it.

    `preview` is a JPEG that the waiting message shows: how a region was understood.
    """

    request: ImageRequest
    given: GivenInputs
    preview: bytes | None = field(default=None, repr=False)


Gather = Callable[[], Awaitable[Gathered]]
"""Fetches all that a job starts from; raises `UserError` where it cannot be had."""

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
    """Return who asked through a message to the bot, a direct one or in a server's channel."""
    return Origin(
        source_id=f"m{message.id}",
        target=Target.MESSAGE,
        user_id=message.author.id,
        user_name=message.author.display_name,
        guild_id=message.guild.id if message.guild else None,
        channel_id=message.channel.id,
        parent_channel_id=parent_of(message.channel),
        category_id=category_of(message.channel),
        locale=language(),
        role_ids=author_roles(message),
    )


def author_roles(message: discord.Message) -> frozenset[int]:
    """Return the ids of the roles that a message's author has in its server, if any."""
    member = message.author
    if not isinstance(member, discord.Member):
        return frozenset()
    return frozenset(role.id for role in member.roles)


class Intake:
    """Commits requests and sends their first response."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        store: ImageStore,
        acknowledgements: Acknowledgements,
        slots: FetchSlots,
        visibility: Visibility,
        *,
        log_prompts: bool = False,
    ) -> None:
        self._database = database
        self._queue = queue
        self._store = store
        self._acknowledgements = acknowledgements
        self._slots = slots
        self._visibility = visibility
        self._log_prompts = log_prompts

    async def from_interaction(
        self,
        interaction: discord.Interaction[Any],
        request: ImageRequest,
        *,
        model: str | None = None,
        picture: PictureSource | None = None,
        sizes: Sizes | None = None,
        gather: Gather | None = None,
    ) -> bool:
        """Accept a command's or button's request; raise `UserError` where it is refused.

        False: it was refused too late for that, and its user was told. The answer is direct where
        the commit takes less than 0.7 s, so that a refusal can be private; past that the
        interaction is deferred, which accepts nothing yet. `model` draws it (None: the configured
        one). `picture` fetches the picture that the job starts from; of the `sizes`, if any, the
        request gets that of the picture's shape. `gather` fetches whatever else it starts from.
        """
        origin = interaction_origin(interaction)
        gather = gather or _of_picture(request, picture, sizes)
        with self._acknowledgements.sending(origin.source_id):
            task = asyncio.create_task(self._submit(request, origin, model, gather))
            await asyncio.wait({task}, timeout=DIRECT_ANSWER_S)
            if not task.done():
                await _lenient(
                    partial(interaction.response.defer, thinking=True, ephemeral=request.private)
                )
            try:
                submission, preview = await task
            except UserError as error:
                if not interaction.response.is_done():
                    raise
                # A bot that stops may have closed its client by now.
                await _lenient(partial(interaction.edit_original_response, content=spoken(error)))
                return False
            await self._respond(interaction, submission, request, preview)
            return True

    async def _respond(
        self,
        interaction: discord.Interaction[Any],
        submission: Submission,
        request: ImageRequest,
        preview: bytes | None,
    ) -> None:
        job_id = submission.job.id
        with job_context(job_id):
            if submission.repeated:
                log.info("the same interaction came twice; its job stands")
                return
            log.info("accepted for user %d by interaction", submission.job.user_id)
            self._log_prompt(submission.job)
            card = await self._first_card(submission, preview)
            if interaction.response.is_done():
                message = await _lenient(
                    partial(interaction.edit_original_response, **edit_of(card))
                )
                message_id = message.id if message is not None else None
            else:
                reply = await _lenient(
                    partial(
                        interaction.response.send_message,
                        **message_of(card),
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
        self, request: ImageRequest, origin: Origin, model: str | None, gather: Gather | None
    ) -> tuple[Submission, bytes | None]:
        """Submit a request, once what it starts from is safe on the disk; with its preview.

        That is fetched only for a request that is not refused without it.
        """
        if gather is None:
            return await self._queue.submit(request, origin, model=model), None
        job_id = self._queue.new_job_id()
        inputs, preview = self._store.inputs, None

        async def prepare() -> ImageRequest:
            nonlocal preview
            async with self._slots.reserve(origin.user_id):
                found = await gather()
                kept = await inputs.keep(job_id, found.given)
            place = ShownIn(
                origin.guild_id, origin.channel_id, origin.parent_channel_id, request.private
            )
            looked_at = [(inputs.path(name), sha256) for name, sha256 in kept.pictures]
            if await self._visibility.require_sources(place, looked_at):
                preview = found.preview
            return holding(found.request, kept)

        submission = await submit_with_picture(
            self._queue, inputs, request, origin, prepare, job_id=job_id, model=model
        )
        return submission, preview

    async def from_message(
        self,
        message: discord.Message,
        request: ImageRequest,
        *,
        model: str | None = None,
        picture: PictureSource | None = None,
        sizes: Sizes | None = None,
        gather: Gather | None = None,
    ) -> None:
        """Accept a message's request, as `from_interaction` does an interaction's."""
        origin = message_origin(message)
        gather = gather or _of_picture(request, picture, sizes)
        with self._acknowledgements.sending(origin.source_id):
            submission, preview = await self._submit(request, origin, model, gather)
            with job_context(submission.job.id):
                if submission.repeated:
                    log.info("the same message came twice; its job stands")
                    return
                log.info("accepted for user %d by message", submission.job.user_id)
                self._log_prompt(submission.job)
                card = await self._first_card(submission, preview)
                sent = await _lenient(
                    partial(
                        message.channel.send,
                        **message_of(card),
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

    async def _first_card(self, submission: Submission, preview: bytes | None) -> Card:
        place = await self._queue.standing.place(submission.job.id, _PLACE_PATIENCE_S)
        start = self._queue.forecast.awaited(submission.job)
        status = waiting_status(place, self._queue.control.paused, start)
        shown = self._queue.models.shown(submission.job)
        if preview is None:
            return progress(submission.job, status, model=shown)
        region = _("🖍️ Only the bright part of this preview is redrawn.")
        return progress(submission.job, f"{status}\n{region}", preview, model=shown)

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


def _of_picture(
    request: ImageRequest, picture: PictureSource | None, sizes: Sizes | None
) -> Gather | None:
    """Return what fetches the one picture that a job starts from, if there is one.

    Its shape is what its bytes say: labels that came with it may know nothing of how it is to be
    turned, and the engine does not see them.
    """
    if picture is None:
        return None

    async def gather() -> Gathered:
        data = await picture()
        shape = await asyncio.to_thread(picture_shape, data) if sizes else None
        shaped = shaped_like(request, shape, sizes) if sizes and shape else request
        return Gathered(shaped, GivenInputs(data))

    return gather


async def _lenient(call: Callable[[], Awaitable[T]]) -> T | None:
    """Await a call to Discord whose failure loses nothing: the courier will find another way."""
    try:
        return await call()
    except FORESEEN as error:
        code = f"{error.status} {error.code}" if isinstance(error, discord.HTTPException) else ""
        log.warning("the first response failed: %s %s", type(error).__name__, code)
        return None
