"""Quotas: what counts together against which bound of 24 hours, and when there is room again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.domain.job import Origin, Target
from bot.rules.refusals import QuotaReached, QuotaUnit
from bot.rules.server_limits import Bounds, ServerLimits
from bot.words import _
from storage.usage import Charge, QuotaScope

DAY_S: Final = 24 * 3600
TOLERANCE: Final = 1e-6
"""Shares of pictures that were given back do not add up exactly."""
_LONG_S: Final = 120


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
    if images is not None and needed.images > images - used.images + TOLERANCE:
        return False
    seconds = quota.bounds.seconds
    return not (
        seconds is not None
        and needed.seconds > 0
        and needed.seconds > seconds - used.seconds + TOLERANCE
    )


def refusal(quota: Quota, charges: Sequence[Charge], needed: Charge) -> QuotaReached:
    """Return why `fits` is false, with when there is room again (`retry_at` None: never)."""
    used = sum(charge.images for charge in charges)
    limit = quota.bounds.images
    if limit is not None and needed.images > limit - used + TOLERANCE:
        drops = [(charge.at, charge.images) for charge in charges]
        return QuotaReached(
            quota.scope,
            QuotaUnit.IMAGES,
            used=used,
            limit=limit,
            needed=needed.images,
            retry_at=None
            if needed.images > limit
            else _room_at(drops, used - limit + needed.images),
        )
    bound = quota.bounds.seconds
    assert bound is not None
    spent = sum(charge.seconds for charge in charges)
    drops = [(charge.at, charge.seconds) for charge in charges]
    return QuotaReached(
        quota.scope,
        QuotaUnit.SECONDS,
        used=spent,
        limit=bound,
        needed=needed.seconds,
        retry_at=None
        if needed.seconds > bound
        else _room_at(drops, spent - bound + needed.seconds),
    )


def _room_at(charges: Sequence[tuple[float, float]], needed: float) -> int:
    """Return the Unix second by which `needed` has dropped out of the window."""
    for charged_at, charged in charges:
        needed -= charged
        if needed <= TOLERANCE:
            return math.ceil(charged_at + DAY_S)
    raise AssertionError("no more is needed than was charged")


def amount(images: float) -> str:
    """Return a number of pictures for people: a started tenth counts."""
    return f"{math.ceil(images * 10 - TOLERANCE) / 10:,.1f}".removesuffix(".0")


def span(seconds: float) -> str:
    """Return a time of the graphics card for people."""
    if seconds < _LONG_S:
        return _("{count} s").format(count=f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.2g}")
    return _("{count} min").format(count=f"{seconds / 60:,.0f}")
