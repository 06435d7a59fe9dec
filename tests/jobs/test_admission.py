"""What a server allows is asked in the transaction that adds the job, whoever submits it."""

from __future__ import annotations

from typing import get_args

import pytest

from bot.http.errors import problem_of
from bot.jobs import admission
from bot.jobs.queue import JobQueue
from bot.messages.refusals import spoken
from bot.rules.refusals import (
    ChannelClosed,
    CooldownRuns,
    ModelRefused,
    OpenJobsReached,
    PromptRuleBroken,
    QueueDrained,
    QueueFull,
    QuotaReached,
    QuotaUnit,
    Refusal,
    ShuttingDown,
    UserBlocked,
)
from bot.words import speaking
from storage import blocks, people
from storage.blocks import Block
from storage.usage import QuotaScope
from tests.jobs.kit import PLENTY, make_origin, make_request, one, refused, submit


async def set_guild(database, clock, **values):
    await database.write(lambda tx: people.put(tx, "guilds", 77, values, clock()))


async def test_a_closed_channel_and_its_threads_are_refused(queue, database, clock):
    await set_guild(database, clock, denied_channels=[88])
    with refused(ChannelClosed, match="does not draw in this channel"):
        await submit(queue)
    with refused(ChannelClosed, match="does not draw in this channel"):
        await queue.submit(make_request(), make_origin(channel_id=5, parent_channel_id=88))
    await queue.submit(make_request(), make_origin(channel_id=5))
    await queue.submit(make_request(), make_origin(guild_id=None))


async def test_a_rule_of_the_server_is_asked(queue, database, clock):
    await set_guild(database, clock, rules=["gore"])
    with refused(PromptRuleBroken, match="rules do not allow this prompt"):
        await queue.submit(make_request("some GORE here"), make_origin())
    await queue.submit(make_request("some GORE here"), make_origin(guild_id=78))
    await queue.submit(make_request("gorgeous"), make_origin())


async def test_rules_that_change_while_a_prompt_is_judged_count(
    queue, database, clock, monkeypatch
):
    judged: list[tuple[str, ...]] = []
    breaks_rule = admission.breaks_rule

    async def slowly(rules, *texts):
        judged.append(tuple(rules))
        found = await breaks_rule(rules, *texts)
        if len(judged) == 1:
            await set_guild(database, clock, rules=["gore"])
        return found

    monkeypatch.setattr(admission, "breaks_rule", slowly)
    await set_guild(database, clock, rules=["something else"])
    with pytest.raises(PromptRuleBroken):
        await queue.submit(make_request("gore"), make_origin())
    assert judged == [("something else",), ("gore",)]
    assert await one(database, "SELECT count(*) FROM jobs") == 0


async def test_a_servers_rule_about_a_model_is_asked_where_there_are_several(
    queue, database, clock
):
    several = JobQueue(database, PLENTY, model="tiny", models=["tiny", "tiny-ink"], clock=clock)
    await set_guild(database, clock, models={"tiny": [], "tiny-ink": [5, "x"], "other": "x"})
    with refused(ModelRefused, match="is for: <@&5>"):
        await several.submit(make_request(), make_origin(), model="tiny-ink")
    # The configured one, which a request that names none is drawn by.
    with refused(ModelRefused, match="Nobody may use the model tiny in this server"):
        await several.submit(make_request(), make_origin())
    await several.submit(make_request(), make_origin(role_ids={5, 6}), model="tiny-ink")
    await several.submit(make_request(), make_origin(guild_id=None), model="tiny-ink")
    await set_guild(database, clock, models={"tiny-ink": [77]})
    await several.submit(make_request(), make_origin(), model="tiny-ink")
    await set_guild(database, clock, models={"tiny": []})
    await queue.submit(make_request(), make_origin())


async def test_a_repeated_request_finds_its_job_whatever_was_forbidden_since(
    queue, database, clock
):
    origin = make_origin()
    first = await queue.submit(make_request("gore"), origin)
    await set_guild(database, clock, rules=["gore"], denied_channels=[88])
    again = await queue.submit(make_request("gore"), origin)
    assert (again.job.id, again.repeated) == (first.job.id, True)


async def test_a_blocked_user_reads_why_and_until_when(queue, database, clock):
    until = clock() + 3600
    block = Block(1, 77, clock(), until, "spam", 9)
    await database.write(lambda tx: blocks.put(tx, block))
    with refused(UserBlocked, match=rf"cannot use the bot here\. .*<t:{until:.0f}:R>.*spam"):
        await submit(queue)


KINDS = [
    OpenJobsReached(3),
    CooldownRuns(30, 1_800_000_030),
    *(
        QuotaReached(scope, unit, used=1, limit=2, needed=3, retry_at=at)
        for scope in QuotaScope
        for unit in QuotaUnit
        for at in (None, 1_800_000_030)
    ),
    QueueFull(500),
    QueueFull(5, of_server=True),
    QueueDrained("a new card"),
    ShuttingDown(),
    UserBlocked(None, ""),
    ChannelClosed(),
    ModelRefused("tiny-ink", ()),
    ModelRefused("tiny-ink", (5,)),
    PromptRuleBroken(),
]


def test_every_refusal_is_worded_at_both_doors():
    assert {type(kind) for kind in KINDS} == set(get_args(Refusal))
    for kind in KINDS:
        sentences = [spoken(kind), str(problem_of(kind).detail)]
        assert kind.sentence not in sentences, "bot/rules/wording.py does not know it"
        assert "<t:" not in sentences[1]
        assert "/queue" not in sentences[1]
        with speaking("zh-CN"):
            assert spoken(kind) != sentences[0]


def test_each_door_says_times_and_help_in_its_own_way():
    cooldown = CooldownRuns(30, 1_800_000_030)
    assert "the next one <t:1800000030:R>." in spoken(cooldown)
    assert "the next one at 2027-01-15T08:00:30Z." in problem_of(cooldown).detail
    full = OpenJobsReached(3)
    assert "with /queue, or wait" in spoken(full)
    assert problem_of(full).detail == (
        "You already have 3 jobs waiting or running; that is the limit. Cancel one with "
        "DELETE /api/v1/jobs/{id}, or wait until one is done."
    )
    with speaking("zh-CN"):
        assert "<t:1800000030:R>" in spoken(cooldown)
        assert "the next one" not in spoken(cooldown)
