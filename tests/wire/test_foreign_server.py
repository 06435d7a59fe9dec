"""On a server without the bot, where only a user has the app installed."""

from __future__ import annotations

import pytest

from bot.sandbox.errors import Refusal
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import job_id_of, soon, staged

HOUR = 3600


async def test_everything_goes_through_the_interaction(stage):
    bob, mallory = stage.sandbox.user("bob"), stage.sandbox.user("mallory")
    answer = await stage.outcome(await stage.imagine("bob", "a fish", "lounge"))
    assert answer.files
    delivery = await stage.delivered(job_id_of(answer))
    assert (delivery.rung, delivery.bot_in_channel) == ("token", False)
    # Whoever is there may press; the installation is that of the command.
    again = await mallory.press(answer, "Reroll")
    rerolled = await stage.outcome(again)
    assert (await stage.job_of(rerolled)).user_id == mallory.id
    assert rerolled.files
    channel = str(bob.place("lounge").id)
    assert not [e for e in stage.sandbox.exchanges if f"/channels/{channel}" in e.path]


async def test_commands_are_offered_only_to_who_installed_the_app(stage):
    with pytest.raises(Refusal, match="may not use"):
        await stage.imagine("mallory", "a fish", "lounge")
    with pytest.raises(Refusal, match="no such channel"):
        await stage.imagine("alice", "a fish", "lounge")


async def test_past_the_token_it_comes_by_direct_message(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("bob", "a fish", "lounge")
        job_id = job_id_of(await invocation.answer())
        await soon(engine.holding.wait())
        stage.advance(HOUR)
        engine.release.set()
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "dm"
        (private,) = stage.visible("bob", "dm")
        assert private.files
