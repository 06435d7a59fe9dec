"""Admission: how a request becomes a job, with all that may refuse it in the one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bot.domain.job import Job, Origin
from bot.domain.request import ImageRequest
from bot.jobs.costs import ModelCost
from bot.rules import limits as limits_
from bot.rules.blocked import require_unblocked
from bot.rules.limits import Limits
from bot.rules.model_rules import ModelRules
from bot.rules.prompt_rules import breaks_rule
from bot.rules.refusals import ChannelClosed, PromptRuleBroken
from bot.rules.server_edits import Values, closed_places_of, rules_of
from bot.rules.server_limits import ServerLimits
from storage import jobs, people, usage
from storage.database import Transaction
from storage.usage import Charge


@dataclass(frozen=True)
class Submission:
    """An accepted request; `repeated` if its `source_id` was seen before: this is its first job."""

    job: Job
    repeated: bool


@dataclass(frozen=True, slots=True)
class PromptVerdict:
    """Whether a request breaks one of `rules`; none breaks no rules."""

    rules: tuple[str, ...] = ()
    broken: bool = False

    @classmethod
    async def judge(cls, rules: tuple[str, ...], request: ImageRequest) -> Self:
        """Judge a request: outside of transactions, which wait for SQL alone, as a rule may not."""
        said = "\n".join(text for text in (request.prompt, request.rewritten) if text)
        return cls(rules, await breaks_rule(rules, said, request.negative_prompt))


class RulesDiffer(Exception):
    """A server's `rules` are others than those that a prompt was judged by."""

    def __init__(self, rules: tuple[str, ...]) -> None:
        super().__init__(f"{len(rules)} rules")
        self.rules = rules


async def channel_settings(tx: Transaction, origin: Origin) -> Values:
    """Return what the server of a request has set; raise `ChannelClosed` where nothing is drawn."""
    if origin.guild_id is None:
        return {}
    values = await people.get(tx, "guilds", origin.guild_id)
    places = {origin.channel_id, origin.parent_channel_id, origin.category_id}
    if places & closed_places_of(values):
        raise ChannelClosed
    return values


async def server_settings(tx: Transaction, origin: Origin, verdict: PromptVerdict) -> Values:
    """Return what the server of a request has set, which allows the request.

    Raises `ChannelClosed`, `PromptRuleBroken` or `RulesDiffer`.
    """
    values = await channel_settings(tx, origin)
    if (rules := rules_of(values)) != verdict.rules:
        raise RulesDiffer(rules)
    if verdict.broken:
        raise PromptRuleBroken
    return values


def held_roles(origin: Origin) -> frozenset[int]:
    """Return the roles of whoever asks, with @everyone, which has the server's id."""
    return origin.role_ids | {origin.guild_id or 0}


@dataclass(frozen=True, slots=True)
class Admission:
    """That a request may become a job now: what it is charged, and what its server has set."""

    needed: Charge
    settings: Values


async def examine(
    tx: Transaction,
    request: ImageRequest,
    origin: Origin,
    limits: Limits,
    verdict: PromptVerdict,
    *,
    cost: ModelCost,
    now: float,
    model: str | None = None,
) -> Admission:
    """Ask all that the database knows against a request.

    `cost` is that of the job's model. `model` is what a server's rules about models are asked for;
    None: nothing, since there is no choice. Raises `UserBlocked`, `ChannelClosed`, `ModelRefused`,
    `PromptRuleBroken`, `RulesDiffer`, `QueueFull` or a `LimitReached`.
    """
    settings = await server_settings(tx, origin, verdict)
    if model is not None:
        ModelRules.read(settings).require(model, held_roles(origin))
    await require_unblocked(tx, origin.user_id, origin.guild_id, now)
    seconds = cost.charge(request.megapixel_steps, request.tokens)
    needed = Charge(now, request.pictures, seconds)
    await limits_.check(tx, limits, ServerLimits.read(settings), origin, needed)
    return Admission(needed, settings)


async def admit(
    tx: Transaction,
    job_id: str,
    request: ImageRequest,
    origin: Origin,
    admission: Admission,
    *,
    model: str | None = None,
) -> Job:
    """Add the job, its charge, and whom it is for, in the transaction that examined it.

    `model` is the one that draws it, None: the configured one.
    """
    needed, own = admission.needed, ServerLimits.read(admission.settings)
    weight = own.weight(held_roles(origin))
    await jobs.insert(tx, job_id, request, origin, needed.at, weight=weight, model=model)
    await usage.charge(
        tx, job_id, origin.user_id, origin.guild_id, request.pictures, needed.seconds, needed.at
    )
    await people.see_user(tx, origin.user_id, origin.user_name, origin.locale, needed.at)
    if origin.guild_id is not None:
        await people.see_guild(tx, origin.guild_id, needed.at)
    job = await jobs.find(tx, job_id)
    assert job
    return job
