"""Notices: which answers call for their author's attention, and the short message that gets it.

Where an answer that took long comes by an edit, which notifies nobody, a short message follows that
mentions its author. It is sent once, after the answer was recorded, and never again: it is no
answer, and may be lost.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import aiohttp
import discord

from bot.delivery.errors import FORESEEN, RungClosedError, explain
from bot.delivery.ladder import Ladder, Rung, Sent, author_alone
from bot.domain.job import Job, JobState, Target
from bot.messages.notice import notice
from bot.rules.notice import Notice
from bot.rules.preferences import Preferences, notice_for
from storage.deliveries import Delivery

log = logging.getLogger(__name__)

LONG_S: Final = 20.0
"""What counts as long, from the accepted request to the answer: people look elsewhere by then."""
_PATIENCE_S: Final = 10.0
_BY_EDIT: Final = frozenset({Rung.TOKEN, Rung.EDIT})


class Notices:
    """Decides by the author's setting, and calls the author where an edit has to do."""

    def __init__(self, client: discord.Client, ladder: Ladder, preferences: Preferences) -> None:
        self._client = client
        self._ladder = ladder
        self._preferences = preferences

    async def wanted(self, job: Job, delivery: Delivery, now: float) -> Notice:
        """Return how the author of a job is to learn of its answer at `now` (Unix seconds).

        Quietly of one that came soon, is private, or says that the author's own wish was done.
        """
        private = delivery.private and delivery.target == Target.INTERACTION
        own_wish = job.deleted_at is not None or (job.state is JobState.CANCELLED and not job.error)
        if private or own_wish or now - delivery.created_at <= LONG_S:
            return Notice.QUIET
        chosen = await notice_for(self._preferences, job.user_id, job.guild_id)
        # Between the author and the bot a new message is a direct one.
        here = job.guild_id is None and delivery.bot_in_channel
        return Notice.REPLY if here and chosen is Notice.DIRECT else chosen

    async def send(
        self, wanted: Notice, rung: Rung, job: Job, delivery: Delivery, sent: Sent
    ) -> None:
        """Mention the author of an answer that came by an edit, once; never raises.

        By direct message where the author wants that and it was not refused yet, else where the
        answer is.
        """
        if wanted is Notice.QUIET or rung not in _BY_EDIT:
            return
        ways = [self._in_channel] if delivery.public else []
        if rung is Rung.TOKEN:
            ways.append(self._by_token)
        if wanted is Notice.DIRECT and not (delivery.public and delivery.message_id):
            # Else it was tried as a way of the answer itself.
            ways.insert(0, self._directly)
        text = notice(job, sent.channel_id, sent.message_id)
        for way in ways:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await way(delivery, text)
            except FORESEEN as error:
                explained = explain(error)
                log.info("a notice was not sent (%s)", explained)
                # Only a refusal says for sure that it did not arrive.
                if not isinstance(explained, RungClosedError):
                    return
            else:
                return

    async def _directly(self, delivery: Delivery, text: str) -> None:
        channel = await self._client.create_dm(discord.Object(delivery.user_id))
        await self._post(channel, delivery, text)

    async def _in_channel(self, delivery: Delivery, text: str) -> None:
        channel = self._client.get_partial_messageable(delivery.channel_id or 0)
        await self._post(channel, delivery, text)

    async def _by_token(self, delivery: Delivery, text: str) -> None:
        webhook = self._ladder.webhook(delivery)
        # discord.py repeats a follow-up that was answered with 5xx, which may have arrived.
        webhook.session = _Once(webhook.session)  # pyright: ignore[reportAttributeAccessIssue]
        await webhook.send(text, allowed_mentions=author_alone(delivery))

    async def _post(
        self,
        channel: discord.PartialMessageable | discord.DMChannel,
        delivery: Delivery,
        text: str,
    ) -> None:
        await channel.send(
            text, nonce=f"{delivery.job_id}n", allowed_mentions=author_alone(delivery)
        )


class _Once:
    """A client's session that carries one request."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session: aiohttp.ClientSession | None = session

    def request(
        self, *args: Any, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        session, self._session = self._session, None
        if session is None:
            raise TimeoutError("not repeated")
        return session.request(*args, **options)
