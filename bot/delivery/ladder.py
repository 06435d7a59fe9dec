"""The ways an answer can reach its user, best first, and what each failure means.

1. `TOKEN`: edit the original response with the interaction's token (good for 15 minutes).
2. `EDIT`: edit the same message with the bot's own token.
3. `CHANNEL`: a new message in the channel, with a nonce, when that message is gone.
4. `DM`: a direct message.
5. `KEPT`: nothing more can be sent; the picture waits for `/show`.

A private job never takes a public way. Editing a message twice is harmless and sending two is
not, so a new message whose earlier attempt has an unknown outcome carries the same nonce, or,
once Discord may have forgotten the nonce, is looked for in the channel's history first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, cast

import aiohttp
import discord

from bot.delivery.render import Card
from storage.deliveries import Delivery

# Discord enforces a nonce for "the past few minutes" (Create Message, `enforce_nonce`); one minute
# is well within any reading of that.
NONCE_WINDOW_S: Final = 60.0
TOKEN_MARGIN_S: Final = 5.0
_HISTORY_LIMIT: Final = 200
_TOO_LARGE: Final = 40005


class Rung(StrEnum):
    """A way to deliver."""

    TOKEN = "token"  # noqa: S105 - a way, not a secret
    EDIT = "edit"
    CHANNEL = "channel"
    DM = "dm"
    KEPT = "kept"


class RungClosedError(Exception):
    """This way will not work any more; the next one may."""


class RetryLaterError(Exception):
    """This way may work later; whether the attempt reached Discord is not known."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class TooLargeError(Exception):
    """Discord refused the upload's size."""


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


def rungs(delivery: Delivery, now: float) -> tuple[Rung, ...]:
    """Return the ways that are open to a delivery, from the one it has come to."""
    ways: list[Rung] = []
    if delivery.target in {"interaction", "message"}:
        if token_lives(delivery, now):
            ways.append(Rung.TOKEN)
        if delivery.public and delivery.channel_id:
            if delivery.message_id:
                ways.append(Rung.EDIT)
            ways.append(Rung.CHANNEL)
        if delivery.target == "interaction":
            ways.append(Rung.DM)
    ways.append(Rung.KEPT)
    order = list(Rung)
    reached = order.index(Rung(delivery.rung)) if delivery.rung else 0
    return tuple(way for way in ways if order.index(way) >= reached)


def explain(error: Exception) -> Exception:
    """Turn what discord.py raised into `RungClosedError`, `RetryLaterError` or `TooLargeError`."""
    if isinstance(error, discord.HTTPException):
        reason = f"{error.status} {error.code}"
        if error.status == 413 or error.code == _TOO_LARGE:  # noqa: PLR2004
            return TooLargeError(reason)
        if error.status == 429:  # noqa: PLR2004
            header = error.response.headers.get("Retry-After", "")
            after = float(header) if header.replace(".", "", 1).isdigit() else None
            return RetryLaterError(reason, after)
        if error.status >= 500:  # noqa: PLR2004
            return RetryLaterError(reason)
        return RungClosedError(reason)
    if isinstance(error, discord.RateLimited):
        return RetryLaterError("429", error.retry_after)
    if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
        return RetryLaterError(type(error).__name__)
    return error


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
        if rung is Rung.KEPT:
            raise RungClosedError("kept")
        try:
            match rung:
                case Rung.TOKEN:
                    return await self.edit_by_token(delivery, card)
                case Rung.EDIT:
                    return await self.edit_by_bot(delivery, card)
                case Rung.CHANNEL:
                    channel = self._client.get_partial_messageable(delivery.channel_id or 0)
                    return await self._post(channel, delivery, card, intent_at, "c")
                case Rung.DM:
                    user = discord.Object(delivery.user_id)
                    channel = await self._client.create_dm(user)
                    return await self._post(channel, delivery, card, intent_at, "d")
        except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise explain(error) from error

    async def edit_by_token(self, delivery: Delivery, card: Card) -> Sent:
        """Edit the original response through the interaction's webhook."""
        webhook = discord.Webhook.partial(
            delivery.application_id or 0, delivery.token or "", client=self._client
        )
        # discord.py types the id as int; the route takes any segment.
        message = await webhook.edit_message(
            cast("int", "@original"),
            content=None,
            embed=card.embed,
            attachments=card.files(),
            view=card.view(),
        )
        return Sent(message.channel.id, message.id)

    async def edit_by_bot(self, delivery: Delivery, card: Card) -> Sent:
        """Edit the same message as the bot itself."""
        channel = self._client.get_partial_messageable(delivery.channel_id or 0)
        message = channel.get_partial_message(delivery.message_id or 0)
        await message.edit(
            content=None, embed=card.embed, attachments=card.files(), view=card.view()
        )
        return Sent(delivery.channel_id, delivery.message_id)

    async def _post(
        self,
        channel: discord.PartialMessageable | discord.DMChannel,
        delivery: Delivery,
        card: Card,
        intent_at: float,
        letter: str,
    ) -> Sent:
        if self._clock() - intent_at > NONCE_WINDOW_S:
            found = await self._find(channel, card, intent_at)
            if found is not None:
                return found
        message = await channel.send(
            content=f"<@{delivery.user_id}>",
            embed=card.embed,
            files=card.files(),
            view=card.view(),
            nonce=card.job_id + letter,
            allowed_mentions=discord.AllowedMentions(
                everyone=False,
                roles=False,
                replied_user=False,
                users=[discord.Object(delivery.user_id)],
            ),
        )
        return Sent(channel.id, message.id)

    async def _find(
        self, channel: discord.abc.Messageable, card: Card, since: float
    ) -> Sent | None:
        """Look for an earlier attempt's message by its buttons, which name the job.

        The progress message names it too, but has other buttons than the outcome.
        """
        wanted = card.custom_ids()
        after = datetime.fromtimestamp(since, UTC) - timedelta(minutes=1)
        async for message in channel.history(limit=_HISTORY_LIMIT, after=after):
            if self._client.user is None or message.author.id != self._client.user.id:
                continue
            for row in message.components:
                children: list[Any] = getattr(row, "children", [])
                for item in children:
                    if getattr(item, "custom_id", None) in wanted:
                        return Sent(message.channel.id, message.id)
        return None
