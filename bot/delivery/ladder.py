"""The ways an answer can reach its user, best first, and what each failure means.

1. `REPLY`: after a long wait, a new message that mentions its author, where the bot may read the
   channel's history and remove the message that waited. It is removed once the answer is recorded.
2. `DIRECT`: the same as a direct message, for authors who want that.
3. `TOKEN`: edit the original response with the interaction's token (good for 15 minutes).
4. `EDIT`: edit the same message with the bot's own token.
5. `CHANNEL`: a new message in the channel, with a nonce, when that message is gone.
6. `DM`: a direct message.
7. `KEPT`: nothing more can be sent; the picture waits for `/show`, and the job's message says so.

A private job never takes a public way. Editing a message twice is harmless and sending two is
not. So a new message carries a nonce, which Discord knows for some minutes, and where any earlier
pass may have left an answer behind, the channel is searched for it first. Where it cannot be
searched, and the nonce may be forgotten, the next way is taken: never a blind second send. The
first two ways rely on the search alone: without it no edit may follow them (`after`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, cast

import discord

from bot.delivery.errors import FORESEEN, RungClosedError, UnprovenError, explain
from bot.delivery.lookup import find_answer, require_history, searched_from
from bot.domain.job import Target
from bot.messages.card import Card
from bot.messages.discord_limits import FILE_BYTES
from bot.messages.layout import edit_of, message_of
from bot.rules.notice import Notice
from storage.deliveries import Delivery

# Discord enforces a nonce for "the past few minutes" (Create Message, `enforce_nonce`); one minute
# is well within any reading of that.
NONCE_WINDOW_S: Final = 60.0
TOKEN_MARGIN_S: Final = 5.0
# A way holds one of the courier's few places. What discord.py waits and repeats within it is
# bounded here; the breaker keeps its single waits short.
PATIENCE_S: Final = 60.0
# What the slowest line is taken to carry, in bytes a second: 10 MiB take less than three minutes.
_SLOWEST_LINE: Final = 2**16
BY_DISCORD: Final = frozenset({Target.INTERACTION, Target.MESSAGE})
"""The doors whose answers Discord carries; other callers fetch theirs."""

# discord.py types the id as int; the route takes any segment.
_ORIGINAL: Final = cast("int", "@original")

log = logging.getLogger(__name__)


class Rung(StrEnum):
    """A way to deliver."""

    REPLY = "reply"
    DIRECT = "direct"
    TOKEN = "token"  # noqa: S105 - a way, not a secret
    EDIT = "edit"
    CHANNEL = "channel"
    DM = "dm"
    KEPT = "kept"


POSTED: Final = frozenset({Rung.REPLY, Rung.DIRECT, Rung.CHANNEL, Rung.DM})
"""The ways of a message of the bot's own, with a line that mentions the author."""
BY_NEW_MESSAGE: Final = frozenset({Rung.REPLY, Rung.DIRECT})
"""The ways after which the message that waited is removed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the answer is visible."""

    channel_id: int | None
    message_id: int | None


def token_lives(delivery: Delivery, now: float) -> bool:
    """Tell whether the interaction's token can still be used."""
    return bool(
        delivery.token
        and delivery.application_id
        and (delivery.token_expires_at or 0.0) - TOKEN_MARGIN_S > now
    )


def rungs(
    delivery: Delivery,
    now: float,
    notice: Notice = Notice.QUIET,
    *,
    only: Collection[Rung] = frozenset(Rung),
) -> tuple[Rung, ...]:
    """Return the ways of `only` that are open to a delivery, from the one it has come to.

    One that was tried stays open whatever `notice` has become: it may have left an answer behind.
    """
    ways: list[Rung] = []
    if delivery.target in BY_DISCORD:
        if delivery.public and delivery.channel_id and delivery.message_id:
            wanted = {delivery.rung, str(notice)}
            ways += [way for way in (Rung.REPLY, Rung.DIRECT) if way in wanted]
        if token_lives(delivery, now):
            ways.append(Rung.TOKEN)
        if delivery.public and delivery.channel_id:
            if delivery.message_id:
                ways.append(Rung.EDIT)
            ways.append(Rung.CHANNEL)
        if delivery.target == Target.INTERACTION:
            ways.append(Rung.DM)
    ways.append(Rung.KEPT)
    order = list(Rung)
    reached = order.index(Rung(delivery.rung)) if delivery.rung else 0
    return tuple(way for way in ways if order.index(way) >= reached and way in only)


def after(rung: Rung, error: RungClosedError) -> AbstractSet[Rung]:
    """Return the ways that may follow one that is closed.

    An edit would be seen beside a new message that nobody can look for.
    """
    if not isinstance(error, UnprovenError):
        return frozenset(Rung)
    return {Rung.DM, Rung.KEPT} if rung is Rung.REPLY else {Rung.KEPT}


class Ladder:
    """Carries a card up one rung; the courier decides which."""

    def __init__(self, client: discord.Client, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock

    async def send(self, rung: Rung, delivery: Delivery, card: Card, intent_at: float) -> Sent:
        """Try one way.

        `intent_at` is when this way was first tried for this job (Unix seconds). Raises
        `RungClosedError`, `RetryLaterError` or `TooLargeError`.
        """
        try:
            async with asyncio.timeout(_patience(card)):
                return await self._take(rung, delivery, card, intent_at)
        except FORESEEN as error:
            raise explain(error, by_token=rung is Rung.TOKEN) from error

    async def _take(self, rung: Rung, delivery: Delivery, card: Card, intent_at: float) -> Sent:
        match rung:
            case Rung.TOKEN:
                return await self.edit_by_token(delivery, card)
            case Rung.EDIT:
                return await self.edit_by_bot(delivery, card)
            case Rung.KEPT:
                raise RungClosedError("kept")
            case _:
                return await self._post(rung, delivery, card, intent_at)

    async def take_back(self, rung: Rung, delivery: Delivery, sent: Sent) -> None:
        """Delete an answer that was just sent by `rung`; raise as `send`."""
        try:
            if rung is Rung.TOKEN:
                await self.webhook(delivery).delete_message(_ORIGINAL)
            else:
                channel = self._client.get_partial_messageable(sent.channel_id or 0)
                await channel.get_partial_message(sent.message_id or 0).delete()
        except FORESEEN as error:
            raise explain(error, by_token=rung is Rung.TOKEN) from error

    async def remove(self, delivery: Delivery) -> None:
        """Delete the message that waited, as the bot itself; raise as `send`."""
        channel = self._client.get_partial_messageable(delivery.channel_id or 0)
        try:
            await channel.get_partial_message(delivery.message_id or 0).delete()
        except FORESEEN as error:
            raise explain(error) from error

    def webhook(self, delivery: Delivery) -> discord.Webhook:
        """Return the webhook of a delivery's interaction."""
        webhook = discord.Webhook.partial(
            delivery.application_id or 0, delivery.token or "", client=self._client
        )
        # `partial` takes the client's session and leaves its proxy behind.
        webhook.proxy = self._client.http.proxy
        return webhook

    async def edit_by_token(self, delivery: Delivery, card: Card) -> Sent:
        """Edit the original response through the interaction's webhook."""
        message = await self.webhook(delivery).edit_message(
            _ORIGINAL,
            **edit_of(card, layout=delivery.layout),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        return Sent(message.channel.id, message.id)

    async def edit_by_bot(self, delivery: Delivery, card: Card) -> Sent:
        """Edit the same message as the bot itself; a mention that it has stays one."""
        channel = self._client.get_partial_messageable(delivery.channel_id or 0)
        message = channel.get_partial_message(delivery.message_id or 0)
        nobody = discord.AllowedMentions.none()
        await message.edit(
            **edit_of(card, layout=delivery.layout),
            allowed_mentions=nobody if card.mention is None else author_alone(delivery),
        )
        return Sent(delivery.channel_id, delivery.message_id)

    def file_limit(self, guild_id: int | None) -> int:
        """Return the bytes that one file may have there: more in a boosted server."""
        guild = self._client.get_guild(guild_id) if guild_id is not None else None
        return max(FILE_BYTES, guild.filesize_limit) if guild is not None else FILE_BYTES

    async def announce(self, delivery: Delivery, card: Card) -> None:
        """Show `card` on the message of a job whose answer is not there, by either of its ways.

        Where both are closed it stays as it is. Raises `RetryLaterError` where it may go later.
        """
        anew = replace(delivery, rung=None)
        for rung in rungs(anew, self._clock(), only={Rung.TOKEN, Rung.EDIT}):
            try:
                await self.send(rung, delivery, card, self._clock())
            except RungClosedError as error:
                log.info("the message cannot be changed by %s (%s)", rung, error)
            else:
                return

    async def _post(self, rung: Rung, delivery: Delivery, card: Card, intent_at: float) -> Sent:
        try:
            channel = await self._channel(rung, delivery)
            if rung is Rung.REPLY and not delivery.attempts:
                await require_history(self._client, channel.id)
            found = None
            if delivery.attempts:
                found = await self._find(rung, channel, delivery, card, intent_at)
        except (RungClosedError, *FORESEEN) as error:
            if rung in BY_NEW_MESSAGE and delivery.rung == rung:
                raise _unproven(error) from error
            raise
        if found is not None:
            return Sent(channel.id, found.id)
        message = await channel.send(
            **message_of(card, layout=delivery.layout, mention=delivery.user_id),
            nonce=card.job_id + rung[0],
            # None is what discord.py takes for no reply, which its types leave out.
            reference=cast("discord.MessageReference", _asked_by(rung, delivery)),
            allowed_mentions=author_alone(delivery),
        )
        return Sent(channel.id, message.id)

    async def _channel(
        self, rung: Rung, delivery: Delivery
    ) -> discord.PartialMessageable | discord.DMChannel:
        """Return where a new message goes."""
        if rung in {Rung.DIRECT, Rung.DM}:
            return await self._client.create_dm(discord.Object(delivery.user_id))
        return self._client.get_partial_messageable(delivery.channel_id or 0)

    async def _find(
        self,
        rung: Rung,
        channel: discord.PartialMessageable | discord.DMChannel,
        delivery: Delivery,
        card: Card,
        intent_at: float,
    ) -> discord.Message | None:
        """Look for what an earlier pass may have sent; raise `RungClosedError` without proof.

        A fresh attempt by the same way needs none: Discord knows its nonce.
        """
        shown_here = delivery.channel_id == channel.id
        message_id = delivery.message_id if shown_here else None
        since = intent_at if message_id or not shown_here else delivery.created_at
        now = self._clock()
        since = searched_from(delivery, since, now)
        try:
            return await find_answer(self._client, channel, card, since, message_id)
        except RungClosedError:
            if rung in BY_NEW_MESSAGE:
                raise
            # An intent that lies ahead says nothing about how long ago it was.
            if delivery.rung == rung and 0 <= now - intent_at <= NONCE_WINDOW_S:
                return None
            raise


def _patience(card: Card) -> float:
    """Return the seconds that one way may take with this card."""
    return PATIENCE_S + sum(len(upload.data) for upload in card.uploads) / _SLOWEST_LINE


def _unproven(error: Exception) -> Exception:
    """Return a failed look-up where an earlier attempt was made, as what it means."""
    meant = error if isinstance(error, RungClosedError) else explain(error)
    return UnprovenError(str(meant)) if isinstance(meant, RungClosedError) else error


def _asked_by(rung: Rung, delivery: Delivery) -> discord.MessageReference | None:
    """Return the message that asked, where there is one, to reply to.

    An interaction has none, and a reply to the message that is removed would say that it is gone.
    """
    asked = delivery.source_id.removeprefix("m")
    if rung is not Rung.REPLY or delivery.target != Target.MESSAGE or not asked.isdecimal():
        return None
    return discord.MessageReference(
        message_id=int(asked), channel_id=delivery.channel_id or 0, fail_if_not_exists=False
    )


def author_alone(delivery: Delivery) -> discord.AllowedMentions:
    """Return what a message about a delivery may mention: its author."""
    return discord.AllowedMentions(
        everyone=False,
        roles=False,
        replied_user=False,
        users=[discord.Object(delivery.user_id)],
    )
