"""From when on the search for an earlier answer looks: by Discord's clock, whatever ours said."""

from __future__ import annotations

from types import SimpleNamespace

import discord
import pytest

from bot.client.accept import _expiry
from bot.delivery.lookup import searched_from
from bot.domain.job import Target

NOW = 1_800_000_000.0
ASKED = NOW - 300
DAY = 86_400.0


def delivery(created_at: float, target: Target = Target.INTERACTION):
    snowflake = discord.utils.time_snowflake(
        discord.utils.utcnow().fromtimestamp(ASKED, tz=discord.utils.utcnow().tzinfo)
    )
    return SimpleNamespace(source_id=f"i{snowflake}", target=target, created_at=created_at)


def test_the_first_intent_bounds_the_search_where_all_clocks_agree():
    assert searched_from(delivery(ASKED + 1), NOW - 30, NOW) == NOW - 30


@pytest.mark.parametrize(
    ("created_at", "since", "now"),
    [
        (ASKED + DAY, NOW + DAY - 30, NOW + DAY),  # ahead all the time
        (ASKED + DAY, NOW + DAY - 30, NOW),  # and put right since
        (ASKED + 1, NOW + DAY - 30, NOW),  # ahead at the intent alone
        (ASKED + 1, NOW - 30, NOW - DAY),  # back by now
        (ASKED - DAY, NOW - DAY - 30, NOW),  # back then
    ],
)
def test_a_clock_that_was_or_is_wrong_hides_no_answer(created_at, since, now):
    assert searched_from(delivery(created_at), since, now) <= ASKED + 0.001


def test_what_discord_gave_no_id_is_searched_from_its_job_on():
    assert searched_from(delivery(ASKED + 1, Target.CLI), NOW - 30, NOW) == ASKED + 1


@pytest.mark.parametrize(
    ("off", "expected"), [(0, 895), (-600, 900), (DAY, 900), (-DAY, 900), (3650 * DAY, 900)]
)
def test_a_tokens_life_is_told_by_the_clock_that_will_judge_it(off, expected):
    by_discord = NOW + 895
    assert _expiry(by_discord, NOW + off) == NOW + off + expected
