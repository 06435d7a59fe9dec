"""The search for an answer that an earlier attempt may have left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import discord

from bot.delivery.errors import RetryLaterError, RungClosedError
from bot.domain.job import Target
from bot.messages.card import Card
from bot.messages.components import custom_ids
from storage.deliveries import Delivery

# Ten requests; where more was said since, the search proves nothing.
_HISTORY_LIMIT: Final = 1000
# How far the clock of this machine may be off Discord's.
_CLOCK_TOLERANCE: Final = timedelta(minutes=1)
# The doors whose requests are known by an id of Discord's, after one letter.
_WITH_SNOWFLAKE: Final = frozenset({Target.INTERACTION, Target.MESSAGE})


def searched_from(delivery: Delivery, since: float, now: float) -> float:
    """Return the Unix time from which to search, by Discord's clock.

    `since` is by this machine's, which may have been wrong then or be wrong now. A message that
    was sent before the time that is searched from would be sent a second time. Where any of the
    clocks disagree, all is searched that came after the request; Discord wrote the time of that
    into its id.
    """
    digits = delivery.source_id[1:]
    if delivery.target not in _WITH_SNOWFLAKE or not digits.isdecimal():
        return min(since, delivery.created_at)
    asked_at = discord.utils.snowflake_time(int(digits)).timestamp()
    agree = abs(delivery.created_at - asked_at) <= _CLOCK_TOLERANCE.total_seconds()
    return since if agree and delivery.created_at <= since <= now else min(since, asked_at)


async def find_answer(
    client: discord.Client,
    channel: discord.PartialMessageable | discord.DMChannel,
    card: Card,
    since: float,
    message_id: int | None,
) -> discord.Message | None:
    """Return the message in `channel` that shows the outcome, or None where there is none.

    It is known by its buttons, which name the job; the progress message names it too, but has
    others. `message_id` is looked at first, then everything since the Unix time `since`. Raises
    `RungClosedError` where no proof is possible: a history that the bot may not read, or one that
    is too long (an unreadable one comes back empty, without an error).
    """
    if isinstance(channel, discord.PartialMessageable):
        await require_history(client, channel.id)
    wanted = card.custom_ids()
    if message_id is not None:
        try:
            message = await channel.fetch_message(message_id)
        except discord.NotFound:
            pass
        else:
            if _shows(message, wanted):
                return message
    after = datetime.fromtimestamp(since, UTC) - _CLOCK_TOLERANCE
    seen = 0
    async for message in channel.history(limit=_HISTORY_LIMIT, after=after):
        seen += 1
        own = client.user is not None and message.author.id == client.user.id
        if own and _shows(message, wanted):
            return message
    if seen == _HISTORY_LIMIT:
        raise RungClosedError("an earlier attempt may have arrived, and the history is too long")
    return None


async def require_history(client: discord.Client, channel_id: int) -> None:
    """Raise `RungClosedError` where the bot may not read a channel's history.

    Raises `RetryLaterError` where that is not known yet.
    """
    channel = client.get_channel(channel_id) or await client.fetch_channel(channel_id)
    if isinstance(channel, discord.abc.PrivateChannel):
        return
    member = channel.guild.get_member(client.user.id) if client.user else None
    if member is None:
        raise RetryLaterError("the server is not known yet")
    try:
        readable = channel.permissions_for(member).read_message_history
    except discord.ClientException as error:
        raise RetryLaterError("the thread's channel is not known yet") from error
    if not readable:
        raise RungClosedError("the history is closed")


def _shows(message: discord.Message, wanted: set[str]) -> bool:
    return not wanted.isdisjoint(custom_ids(message.components))
