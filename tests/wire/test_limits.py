"""Limits over the wire: what holds, what is left, and who may set it for a server."""

from __future__ import annotations

import asyncio
import re

import pytest

from bot.sandbox.scene import ADMIN_ROLE_ID, GUILD_ID
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import soon, staged, text_of


async def said(invocation):
    answer = await invocation.answer()
    assert answer.ephemeral
    return answer.content


async def test_a_hundred_at_once_are_three(sandbox, tmp_path, monkeypatch):
    # However slow the machine is: past this time an answer is deferred, and no longer private.
    monkeypatch.setattr("bot.client.accept.DIRECT_ANSWER_S", 60)
    engine = ScriptedEngine(Script(hold_at=1))
    limits = {"limit_open_jobs": 100, "limit_images_per_day": 3}
    async with staged(sandbox, tmp_path, engine, **limits) as stage:
        asked = await asyncio.gather(*(stage.imagine("bob", f"one {n}") for n in range(100)))
        answers = await asyncio.gather(*(one.answer() for one in asked))
        refused = [
            answer for answer in answers if "You have used 3 of 3 pictures" in answer.content
        ]
        assert len(refused) == 97
        assert all(answer.ephemeral and "<t:" in answer.content for answer in refused)
        assert await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM jobs")) == 3
        engine.release.set()


async def test_limits_shows_what_is_used_and_what_comes_back(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    limits = {
        "limit_open_jobs": 2,
        "limit_images_per_day": 10,
        "limit_cooldown_seconds": 600,
        "limit_dm_images_per_day": 5,
    }
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path, engine, **limits) as stage:
        before = await said(await bob.slash("general", "limits"))
        assert "0 of 10 pictures" in before
        assert "<t:" not in before
        asked = await stage.imagine("bob", "x", count=4)
        await soon(engine.holding.wait())
        after = await said(await bob.slash("general", "limits"))
        assert "4 of 10 pictures" in after
        assert "Waiting or running: 1 of 2 jobs" in after
        assert re.search(r"free up <t:\d+:R>", after)
        assert re.search(r"next request is possible <t:\d+:R>", after)
        assert "direct messages" not in after
        direct = await said(await bob.slash("dm", "limits"))
        assert "0 of 5 pictures" in direct
        assert "4 of 10 pictures" in direct
        engine.release.set()
        await stage.outcome(asked)
        assert "Waiting or running: 0 of 2 jobs" in await said(await bob.slash("general", "limits"))


async def test_roles_limit_the_highest_wins_and_only_the_owner_goes_beyond(sandbox, tmp_path):
    alice, mallory = sandbox.user("alice"), sandbox.user("mallory")
    limits = {"limit_open_jobs": 100, "limit_images_per_day": 3}
    async with staged(sandbox, tmp_path, **limits) as stage:
        nothing = await said(await alice.slash("general", "admin limit role", role=GUILD_ID))
        assert "at least one" in nothing
        await said(await alice.slash("general", "admin limit role", role=GUILD_ID, images=1))
        listing = await said(await alice.slash("general", "admin limit list"))
        assert "@everyone: 1 pictures a day" in listing
        assert (await stage.outcome(await stage.imagine("mallory", "one"))).files
        over = await said(await stage.imagine("mallory", "two"))
        assert "Your roles in this server have 0 of 1 pictures left" in over
        # What the server set does not hold elsewhere.
        assert (await stage.outcome(await stage.imagine("mallory", "elsewhere", "dm"))).files
        sandbox.world.guild.members[mallory.id].roles.append(ADMIN_ROLE_ID)
        try:
            await said(
                await alice.slash("general", "admin limit role", role=ADMIN_ROLE_ID, images=50)
            )
            assert (await stage.outcome(await stage.imagine("mallory", "two"))).files
        finally:
            sandbox.world.guild.members[mallory.id].roles.remove(ADMIN_ROLE_ID)
        removed = await said(await alice.slash("general", "admin limit clear", role=GUILD_ID))
        assert "no longer has a limit of its own" in removed
        assert "no limit" in await said(
            await alice.slash("general", "admin limit clear", role=GUILD_ID)
        )


async def test_a_servers_limit_is_shared_and_time_counts_once_measured(sandbox, tmp_path):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path) as stage:
        assert (await stage.outcome(await stage.imagine("bob", "measures"))).files
        told = await said(await alice.slash("general", "admin limit server", minutes=0.1))
        assert "6 s of the graphics card a day" in told
        sentence = await said(await stage.imagine("mallory", "two", count=4))
        assert "All members of this server together have" in sentence
        assert "This is more than a whole day's limit" in sentence
        await said(await alice.slash("general", "admin limit server"))
        assert (await stage.outcome(await stage.imagine("mallory", "free"))).files


@pytest.mark.parametrize("command", ["role", "clear", "server", "list"])
async def test_only_moderators_set_limits(stage, command):
    options = {"role": GUILD_ID} if command in {"role", "clear"} else {}
    bob = stage.sandbox.user("bob")
    invocation = await bob.slash("general", f"admin limit {command}", force=True, **options)
    assert "Manage Server" in await said(invocation)
    assert not await stage.database.read(lambda tx: tx.all("SELECT 1 FROM audit"))


async def test_a_refused_dm_and_a_press_say_it_too(sandbox, tmp_path):
    limits = {"limit_images_per_day": 1}
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path, **limits) as stage:
        message = await stage.outcome(await stage.imagine("bob", "one"))
        pressed = await (await bob.press(message, "Reroll")).answer()
        assert "You have used 1 of 1 pictures" in text_of(pressed)
