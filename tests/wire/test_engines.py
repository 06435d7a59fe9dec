"""Two engines behind one bot, as people and admins see them."""

from __future__ import annotations

import pytest

from bot.engine.protocol import EngineState
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import soon, staged


@pytest.fixture
async def pair(sandbox, tmp_path):
    """A bot with two engines, each of which waits at its first step."""
    first, second = ScriptedEngine(Script(hold_at=1)), ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, first) as stage:
        await stage.app.client.services.fleet.add("second", second, node="attic", card="a card")
        yield stage, first, second


async def say(stage, command: str, **options) -> str:
    answer = await (await stage.sandbox.user("alice").slash("general", command, **options)).answer()
    return answer.content


async def test_two_people_are_served_at_once(pair):
    stage, first, second = pair
    asked = [await stage.imagine(name, "a house") for name in ("bob", "alice")]
    await soon(first.holding.wait())
    await soon(second.holding.wait())
    health = await say(stage, "admin health")
    assert "2 running, 0 waiting" in health
    assert "**local-0**: the graphics card is drawing" in health
    assert "**second on attic**: a card · the graphics card is drawing" in health
    assert "🎨 Step 1 of" in health
    first.release.set()
    second.release.set()
    for invocation in asked:
        assert (await stage.outcome(invocation)).files
    assert "megapixel steps a second" in await say(stage, "admin engine list")


async def test_an_admin_lets_one_engine_rest(pair):
    stage, first, second = pair
    first.release.set()
    assert "there is no such engine" in (await say(stage, "admin engine pause", engine="x")).lower()
    assert "takes no more jobs" in await say(stage, "admin engine pause", engine="local-0")
    invocation = await stage.imagine("bob", "a house")
    await soon(second.holding.wait())
    drained = await say(stage, "admin engine drain", engine="second")
    assert "freed after this picture" in drained
    second.release.set()
    assert (await stage.outcome(invocation)).files
    await soon(second.unloaded.wait())
    assert second.state is EngineState.STOPPED
    listing = await say(stage, "admin engine list")
    assert "paused: takes no jobs" in listing
    assert "drained: takes no jobs, its card is free" in listing
    assert not first.requests
    waiting = await stage.imagine("bob", "a boat")
    assert "takes jobs again" in await say(stage, "admin engine resume", engine="local-0")
    assert (await stage.outcome(waiting)).files
    assert len(first.requests) == 1


async def test_names_are_offered_to_those_who_may_use_them(pair):
    stage, _first, _second = pair
    offered = await stage.sandbox.user("alice").autocomplete(
        "general", "admin engine pause", "engine", engine="SEC"
    )
    assert [choice["value"] for choice in offered] == ["second"]
