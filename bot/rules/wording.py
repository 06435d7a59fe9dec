"""Wording of refusals: one sentence each, in the language that is spoken here.

What differs between doors is theirs to say: how a time is written (`Say`), and what a user with too
many open jobs can do, which a door says in a sentence of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from bot.errors import UserError
from bot.rules import refusals
from bot.rules.quotas import TOLERANCE, amount, span
from bot.rules.refusals import QuotaReached, QuotaUnit
from bot.words import _, mark, ngettext
from storage.usage import QuotaScope

Say = Callable[[float], str]
"""Writes a Unix time in seconds as a door's readers read one."""

_IMAGES: Final = {
    QuotaScope.MEMBER: mark("Your roles in this server have {left} of {limit} pictures left."),
    QuotaScope.DIRECT: mark("In direct messages you have {left} of {limit} pictures left."),
    QuotaScope.SERVER: mark(
        "All members of this server together have {left} of {limit} pictures left."
    ),
}
_SECONDS: Final = {
    QuotaScope.USER: mark(
        "You have {left} of {limit} of graphics card time left; this needs about {needed}."
    ),
    QuotaScope.MEMBER: mark(
        "Your roles in this server have {left} of {limit} of graphics card time left; this needs "
        "about {needed}."
    ),
    QuotaScope.DIRECT: mark(
        "In direct messages you have {left} of {limit} of graphics card time left; this needs "
        "about {needed}."
    ),
    QuotaScope.SERVER: mark(
        "All members of this server together have {left} of {limit} of graphics card time left; "
        "this needs about {needed}."
    ),
}


def worded(error: UserError, say: Say) -> str:
    """Return the sentence of a refusal; that of any other error stands in it."""
    match error:
        case refusals.QuotaReached(unit=QuotaUnit.IMAGES):
            return _images(error, say)
        case refusals.QuotaReached():
            return _seconds(error, say)
        case refusals.CooldownRuns():
            assert error.retry_at is not None
            return _(
                "Only one request in {seconds} seconds is possible; the next one {time}."
            ).format(seconds=f"{error.seconds:g}", time=say(error.retry_at))
        case refusals.UserBlocked():
            return _blocked(error, say)
        case refusals.ChannelClosed():
            return _("The bot does not draw in this channel.")
        case refusals.ModelRefused(roles=()):
            return _("Nobody may use the model {model} in this server.").format(model=error.model)
        case refusals.ModelRefused():
            return _("Your roles in this server do not allow the model {model}.").format(
                model=error.model
            )
        case refusals.PromptRuleBroken():
            return _("This server's rules do not allow this prompt.")
        case refusals.QueueFull(of_server=True):
            return _(
                "This server has {count} jobs waiting, the most it may. Please try again later."
            ).format(count=error.size)
        case refusals.QueueFull():
            return _("The queue is full ({count} jobs wait). Please try again in a while.").format(
                count=error.size
            )
        case refusals.QueueDrained():
            return _(
                "The bot takes no new requests for now: {reason}. What is queued is still "
                "drawn. Please try again later."
            ).format(reason=_(error.reason))
        case refusals.ShuttingDown():
            return _("The bot is shutting down. Please try again in a minute.")
        case _:
            return error.sentence


def _images(error: QuotaReached, say: Say) -> str:
    limit, count = int(error.limit), int(error.needed)
    left = max(0, math.floor(limit - error.used + TOLERANCE))
    if error.scope is not QuotaScope.USER:
        sentence = _(_IMAGES[error.scope]).format(left=left, limit=f"{limit:,}")
        return _with_end(sentence, error, say)
    if error.retry_at is None:
        return _("{count} pictures at once are more than the {limit} of a whole day.").format(
            count=count, limit=limit
        )
    if not left:
        return ngettext(
            "You have used {used} of {limit} pictures of the last 24 hours; the next one is "
            "possible {time}.",
            "You have used {used} of {limit} pictures of the last 24 hours; {count} more are "
            "possible {time}.",
            count,
        ).format(used=amount(error.used), limit=f"{limit:,}", count=count, time=say(error.retry_at))
    return _(
        "You have {left} of {limit} pictures left for the last 24 hours; {count} are "
        "possible {time}."
    ).format(left=left, limit=f"{limit:,}", count=count, time=say(error.retry_at))


def _seconds(error: QuotaReached, say: Say) -> str:
    sentence = _(_SECONDS[error.scope]).format(
        left=span(max(0.0, error.limit - error.used)),
        limit=span(error.limit),
        needed=span(error.needed),
    )
    return _with_end(sentence, error, say)


def _with_end(sentence: str, error: QuotaReached, say: Say) -> str:
    end = _("This is more than a whole day's limit; please ask for less.")
    if error.retry_at is not None:
        end = _("Possible again {time}.").format(time=say(error.retry_at))
    return f"{sentence} {end}"


def _blocked(error: refusals.UserBlocked, say: Say) -> str:
    sentence = _("You cannot use the bot here.")
    if error.until is not None:
        end = _("You can use it again {time}.").format(time=say(error.until))
        sentence = f"{sentence} {end}"
    if error.reason:
        why = _("Reason: {reason}").format(reason=error.reason)
        sentence = f"{sentence} {why}"
    return sentence
