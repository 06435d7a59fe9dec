"""What counts together against which bound of 24 hours, and the sentences that refuse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.domain.job import Origin, Target
from bot.errors import LimitReached
from bot.rules.server_limits import Bounds, ServerLimits
from bot.words import _, mark, ngettext
from storage.usage import Charge, QuotaScope

DAY_S: Final = 24 * 3600
# Shares of pictures that were given back do not add up exactly.
_TOLERANCE: Final = 1e-6
_LONG_S: Final = 120

_IMAGES: Final = {
    QuotaScope.MEMBER: mark("Your roles in this server have {left} of {limit} pictures left."),
    QuotaScope.DIRECT: mark("In direct messages you have {left} of {limit} pictures left."),
    QuotaScope.SERVER: mark(
        "All members of this server together have {left} of {limit} pictures left."
    ),
}
_SECONDS: Final = {
    QuotaScope.USER: mark(
        "You have {left} of {limit} on the graphics card left; this takes about {needed}."
    ),
    QuotaScope.MEMBER: mark(
        "Your roles in this server have {left} of {limit} on the graphics card left; this takes "
        "about {needed}."
    ),
    QuotaScope.DIRECT: mark(
        "In direct messages you have {left} of {limit} on the graphics card left; this takes "
        "about {needed}."
    ),
    QuotaScope.SERVER: mark(
        "All members of this server together have {left} of {limit} on the graphics card left; "
        "this takes about {needed}."
    ),
}


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds, and whose charges of the last 24 hours count against them."""

    scope: QuotaScope
    bounds: Bounds


def quotas(
    origin: Origin, user: Bounds, direct: Bounds, servers: Bounds, own: ServerLimits
) -> list[Quota]:
    """Return what a request has to fit into: `user` everywhere, the rest by where it comes from.

    `servers` bounds each server, `own` is what this one has set.
    """
    found: list[Quota] = []
    if origin.guild_id is not None:
        member = own.member({*origin.role_ids, origin.guild_id}, user)
        user = user.or_more(member)
        found = [
            Quota(QuotaScope.MEMBER, member),
            Quota(QuotaScope.SERVER, servers.or_less(own.server)),
        ]
    elif origin.target in {Target.INTERACTION, Target.MESSAGE}:
        found = [Quota(QuotaScope.DIRECT, direct)]
    everywhere = Quota(QuotaScope.USER, user)
    return [quota for quota in (everywhere, *found) if not quota.bounds.empty]


def fits(quota: Quota, used: Charge, needed: Charge) -> bool:
    """Tell whether there is room. Where the GPU's time is not known, pictures alone count."""
    images = quota.bounds.images
    if images is not None and needed.images > images - used.images + _TOLERANCE:
        return False
    seconds = quota.bounds.seconds
    return not (
        seconds is not None
        and needed.seconds > 0
        and needed.seconds > seconds - used.seconds + _TOLERANCE
    )


def refusal(quota: Quota, charges: Sequence[Charge], needed: Charge) -> LimitReached:
    """Return what to say where `fits` is false, with when there is room again (None: never)."""
    used = sum(charge.images for charge in charges)
    limit = quota.bounds.images
    if limit is not None and needed.images > limit - used + _TOLERANCE:
        drops = [(charge.at, charge.images) for charge in charges]
        retry_at = None if needed.images > limit else _room_at(drops, used - limit + needed.images)
        return _refused_images(quota.scope, used, limit, int(needed.images), retry_at)
    bound = quota.bounds.seconds
    assert bound is not None
    spent = sum(charge.seconds for charge in charges)
    drops = [(charge.at, charge.seconds) for charge in charges]
    retry_at = None if needed.seconds > bound else _room_at(drops, spent - bound + needed.seconds)
    sentence = _(_SECONDS[quota.scope]).format(
        left=span(max(0.0, bound - spent)), limit=span(bound), needed=span(needed.seconds)
    )
    return _with_end(sentence, retry_at)


def _refused_images(
    scope: QuotaScope, used: float, limit: int, count: int, retry_at: int | None
) -> LimitReached:
    left = max(0, math.floor(limit - used + _TOLERANCE))
    if scope is not QuotaScope.USER:
        sentence = _(_IMAGES[scope]).format(left=left, limit=f"{limit:,}")
        return _with_end(sentence, retry_at)
    if retry_at is None:
        sentence = _("{count} pictures at once are more than the {limit} of a whole day.").format(
            count=count, limit=limit
        )
    elif not left:
        sentence = ngettext(
            "You have used {used} of {limit} pictures of the last 24 hours; the next one is "
            "possible {time}.",
            "You have used {used} of {limit} pictures of the last 24 hours; {count} more are "
            "possible {time}.",
            count,
        ).format(used=amount(used), limit=f"{limit:,}", count=count, time=f"<t:{retry_at}:R>")
    else:
        sentence = _(
            "You have {left} of {limit} pictures of 24 hours left for now; {count} are "
            "possible {time}."
        ).format(left=left, limit=f"{limit:,}", count=count, time=f"<t:{retry_at}:R>")
    return LimitReached(sentence, retry_at=retry_at)


def _with_end(sentence: str, retry_at: int | None) -> LimitReached:
    end = _("This is more than 24 hours allow.")
    if retry_at is not None:
        end = _("Possible again {time}.").format(time=f"<t:{retry_at}:R>")
    return LimitReached(f"{sentence} {end}", retry_at=retry_at)


def _room_at(charges: Sequence[tuple[float, float]], needed: float) -> int:
    """Return the Unix second by which `needed` has dropped out of the window."""
    for charged_at, charged in charges:
        needed -= charged
        if needed <= _TOLERANCE:
            return math.ceil(charged_at + DAY_S)
    raise AssertionError("no more is needed than was charged")


def amount(images: float) -> str:
    """Return a number of pictures for people: a started tenth counts."""
    return f"{math.ceil(images * 10 - _TOLERANCE) / 10:,.1f}".removesuffix(".0")


def span(seconds: float) -> str:
    """Return a time of the graphics card for people."""
    if seconds < _LONG_S:
        return _("{count} s").format(count=f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.2g}")
    return _("{count} min").format(count=f"{seconds / 60:,.0f}")
