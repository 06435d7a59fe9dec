"""Quotas and rate limits, decided inside the transaction that adds the job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bot.domain.job import Origin, Target
from bot.rules.quotas import DAY_S, Quota, fits, quotas, refusal
from bot.rules.refusals import CooldownRuns, OpenJobsReached, QueueFull, QuotaReached
from bot.rules.server_limits import Bounds, ServerLimits
from storage import jobs, people, usage
from storage.database import Transaction
from storage.usage import Charge, Window

__all__ = ["DAY_S", "Limits", "check", "server_limits"]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one API key may have: jobs at once, and the rest in any 24 hours; 0 is no limit."""

    open_jobs: int = 0
    images_per_day: int = 0
    gpu_seconds_per_day: float = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the bot's owner allows; 0 is no limit, except for `open_jobs` and `images_per_day`.

    A user may have `open_jobs` at once, `images_per_day` and `gpu_seconds_per_day` in any 24 hours,
    and `cooldown_s` seconds between two requests; outside of servers also no more than `dm_…`.
    A server's members together may have `server_…`. An API key has `key_…` instead of a user's, or
    what `by_key` has for its user id, and no cooldown: it is one program, which may well ask for
    many people. `queue_size` bounds the jobs
    that wait from everyone, `server_queue_size` those of one server.
    """

    open_jobs: int = 3
    images_per_day: int = 100
    gpu_seconds_per_day: float = 0
    cooldown_s: float = 0
    dm_images_per_day: int = 0
    dm_gpu_seconds_per_day: float = 0
    server_images_per_day: int = 0
    server_gpu_seconds_per_day: float = 0
    key_open_jobs: int = 32
    key_images_per_day: int = 1000
    key_gpu_seconds_per_day: float = 0
    queue_size: int = 500
    server_queue_size: int = 0
    by_key: Mapping[int, KeyLimits] = field(default_factory=dict[int, KeyLimits])

    @property
    def user(self) -> Bounds:
        """What a user may have in any 24 hours, where no role grants more."""
        return Bounds.of(self.images_per_day, self.gpu_seconds_per_day)

    def key(self, user_id: int) -> KeyLimits:
        """Return what an API key may have."""
        general = KeyLimits(
            self.key_open_jobs, self.key_images_per_day, self.key_gpu_seconds_per_day
        )
        return self.by_key.get(user_id, general)

    def open_jobs_of(self, origin: Origin) -> int:
        """Return how many jobs whoever asks may have at once; 0 is no limit."""
        if origin.target is Target.HTTP:
            return self.key(origin.user_id).open_jobs
        return self.open_jobs

    def cooldown_of(self, origin: Origin) -> float:
        """Return the seconds that whoever asks waits between two requests.

        A program does not wait, nor what the bot asks for by itself, such as alternative texts.
        """
        return 0 if origin.target in {Target.HTTP, Target.CLI} else self.cooldown_s

    def quotas(self, origin: Origin, own: ServerLimits) -> list[Quota]:
        """Return what a request has to fit into."""
        key = self.key(origin.user_id)
        return quotas(
            origin,
            Bounds.of(key.images_per_day, key.gpu_seconds_per_day)
            if origin.target is Target.HTTP
            else self.user,
            Bounds.of(self.dm_images_per_day, self.dm_gpu_seconds_per_day),
            Bounds.of(self.server_images_per_day, self.server_gpu_seconds_per_day),
            own,
        )


async def server_limits(tx: Transaction, guild_id: int | None) -> ServerLimits:
    """Return what a server has set."""
    if guild_id is None:
        return ServerLimits()
    return ServerLimits.read(await people.get(tx, "guilds", guild_id))


async def check(
    tx: Transaction,
    limits: Limits,
    own: ServerLimits,
    origin: Origin,
    needed: Charge,
) -> None:
    """Raise `QueueFull` or a `LimitReached` when `needed` may not be added now, at its time."""
    await _check_queue(tx, limits, origin.guild_id)
    open_jobs = limits.open_jobs_of(origin)
    if open_jobs and await jobs.count_open(tx, origin.user_id) >= open_jobs:
        raise OpenJobsReached(open_jobs)
    cooldown = limits.cooldown_of(origin)
    if cooldown > 0:
        last = await usage.last_charge(tx, origin.user_id, needed.at)
        if last is not None and last + cooldown > needed.at:
            raise CooldownRuns(cooldown, math.ceil(last + cooldown))
    refusals: list[QuotaReached] = []
    window = Window(needed.at, DAY_S)
    for quota in limits.quotas(origin, own):
        whose = (quota.scope, origin.user_id, origin.guild_id, window)
        if not fits(quota, await usage.total(tx, *whose), needed):
            refusals.append(refusal(quota, await usage.charges(tx, *whose), needed))
    if refusals:
        # What stands in the way the longest: everything else is possible by then.
        raise max(refusals, key=lambda refused: refused.retry_at or math.inf)


async def _check_queue(tx: Transaction, limits: Limits, guild_id: int | None) -> None:
    if await jobs.count_queued(tx) >= limits.queue_size:
        raise QueueFull(limits.queue_size)
    if not limits.server_queue_size or guild_id is None:
        return
    if await jobs.count_waiting_of(tx, guild_id) >= limits.server_queue_size:
        raise QueueFull(limits.server_queue_size, of_server=True)
