"""What users, admins and the owner had chosen still holds, by what the bot says and does."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from bot.sandbox.scene import ADMIN_ROLE_ID, FOREIGN_CHANNEL_ID
from tests.upgrade.kit import upgraded

pytestmark = pytest.mark.slow

ANSWERS = {
    ("bob", "settings"): (
        "Shape: 1:1 square",
        "Quality: Standard",
        "Style: anime",
        "Private: no (the bot's)",
        "Negative prompt: blurry hands",
        "Language: that of your Discord",
    ),
    ("chen", "settings"): ("Language: English",),
    ("alice", "admin defaults"): ("Shape: 3:2 photo", "Quality: Fast", "Style: none (the bot's)"),
    ("alice", "admin limit list"): (
        "All members together: 600 pictures a day · 400 min of the graphics card a day",
        "@everyone: 80 pictures a day",
        f"<@&{ADMIN_ROLE_ID}>: 90 min of the graphics card a day · weight 2",
    ),
    ("alice", "admin rule list"): ("forbidden fruit",),
    ("alice", "admin block list"): ("<@1100000000000000204> · spam",),
    ("alice", "admin style list"): ("**House Look**: teal and gold",),
    ("alice", "admin moderation policy"): (
        "in age-restricted channels: Behind a spoiler.",
        "in other channels: By direct message.",
    ),
    ("alice", "admin engine list"): ("**local-1**: the graphics card is free · paused",),
    ("alice", "admin health"): (
        "Last error of the engine:",
        "ValueError: made to fail",
        "Budget of the engine: at most 10.5 GiB",
    ),
    ("alice", "limits"): (
        *("of 90 pictures\n", "of 90 min of the graphics card"),
        *("of 80 pictures", "of 600 pictures", "of 400 min of the graphics card"),
        *("of 6 jobs", "of 400. What fails"),
    ),
    ("alice", "admin audit"): (
        *("**engine\\_paused** · local-1", "**settings** · closed channels"),
        *("**block** · <@1100000000000000204> · spam", "**resume**", "**pause** · a new fan"),
        "**settings** · flagged pictures in age-restricted channels",
        "**settings** · channel for reports",
    ),
}


async def test_the_commands_tell_what_was_set(drill):
    for (who, command), parts in ANSWERS.items():
        told = await drill.say(who, command)
        for part in parts:
            assert part in told, command


async def test_refusals_of_then_hold(drill):
    for who, channel, prompt, words in (
        ("alice", "art", "a house", "The bot does not draw in this channel."),
        ("mallory", "general", "a house", "You cannot use the bot here. Reason: spam"),
        ("bob", "general", "a Forbidden  Fruit", "rules do not allow this prompt"),
    ):
        assert words in await drill.say(who, "imagine", channel=channel, prompt=prompt)
    # What a server set holds there alone.
    bob = drill.sandbox.user("bob")
    drawn = await bob.slash(FOREIGN_CHANNEL_ID, "imagine", prompt="forbidden fruit")
    await drill.stage.outcome(drawn)


async def test_defaults_styles_and_qualities_of_then_are_drawn_with(drill):
    async def request_of(who: str, **options):
        message = await drill.stage.outcome(await drill.stage.imagine(who, "a hill", **options))
        job = await drill.stage.job_of(message)
        return next(one for one in drill.engine.requests if one.job_id == job.id)

    bobs = await request_of("bob")
    assert (bobs.width, bobs.height, bobs.steps, bobs.guidance) == (256, 256, 4, 3.5)
    assert bobs.prompt.startswith("a hill, anime illustration")
    assert bobs.negative_prompt.startswith("blurry hands")
    chens = await request_of("chen")
    assert (chens.width, chens.height, chens.steps, chens.guidance) == (384, 256, 3, 1.0)
    house = await request_of("chen", style="house look", quality="high", lora="Ink")
    assert (house.steps, house.guidance, house.loras) == (6, 4.5, (("ink_v2", 0.8),))
    assert house.prompt.startswith("a hill, ink drawing, teal and gold")
    assert house.negative_prompt.startswith("red")
    assert not drill.resting.requests


async def test_a_chosen_language_wins_over_discords(drill):
    chen = drill.sandbox.user("chen")
    assert chen.user.locale == "zh-CN"
    assert "Waiting or running" in await drill.say("chen", "limits")


async def test_an_engine_paused_by_its_name_is_resumed_by_it(drill):
    told = await drill.say("alice", "admin engine resume", engine="local-1")
    assert "**local-1** takes jobs again" in told
    assert "paused" not in await drill.say("alice", "admin engine list")


async def test_what_was_used_counts_on(sandbox, old):
    """The old ledger, as if the upgrade came within the hour."""
    with closing(sqlite3.connect("data/bot.sqlite3")) as database:
        (last,) = database.execute("SELECT max(charged_at) FROM usage").fetchone()
        later = time.time() - 3600 - last
        database.execute("UPDATE usage SET charged_at = charged_at + ?", (later,))
        database.commit()
    async with upgraded(sandbox, old) as drill:
        # The failed one was given back.
        assert "4 of 80 pictures" in await drill.say("alice", "limits")
        assert "19 of 600 pictures" in await drill.say("alice", "limits")


async def test_a_role_and_a_server_style_can_be_edited_on(drill):
    await drill.say("alice", "admin style remove", name="House Look")
    assert "no styles of its own" in await drill.say("alice", "admin style list")
    await drill.say("alice", "admin block remove", user=drill.sandbox.user("mallory").id)
    message = await drill.stage.outcome(await drill.stage.imagine("mallory", "a house"))
    assert message.files
    await drill.say("alice", "admin limit clear", role=ADMIN_ROLE_ID)
    assert "weight" not in await drill.say("alice", "admin limit list")
