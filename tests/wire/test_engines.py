"""Two engines behind one bot, as people and admins see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.engine.card_budget import GIB
from bot.engine.protocol import CardUse, EngineState
from bot.messages.card_use import card_lines
from bot.words import speaking
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


FREE = CardUse(
    budget=9 * GIB,
    bound="what is free",
    foreign=3 * GIB,
    blocks=60,
    resident=31,
    pinned=2 * GIB,
    pin_wanted=6 * GIB,
    pin_refused=True,
    uncompiled="Triton is missing",
    precision="int8-fast",
)


async def test_health_says_how_the_cards_are_used(pair):
    stage, first, second = pair
    for engine, use in (
        (first, FREE),
        (second, replace(FREE, bound="IMAGE_VRAM_GB", pin_refused=False, uncompiled=None)),
    ):
        engine.card_use, engine.state = use, EngineState.STOPPED  # so that it is loaded
        engine.release.set()
    assert "Budget of the engine" in await say(stage, "admin health")
    for name in ("bob", "alice"):
        assert (await stage.outcome(await stage.imagine(name, "a house"))).files
    while not all(slot.card_use for slot in stage.app.client.services.fleet.slots.values()):
        asked = [await stage.imagine(name, "a boat") for name in ("bob", "alice")]
        for invocation in asked:
            assert (await stage.outcome(invocation)).files
    health = await say(stage, "admin health")
    assert "Budget of the engine" not in health
    first_said, second_said = health.split("**local-0**")[1].split("**second on attic**")
    assert "Memory budget: 9.0 GiB (what is free; other programs hold 3.0 GiB)" in first_said
    assert "31 of 60 stay on the card, not compiled (Triton is missing)" in first_said
    assert "Pinned memory: 2.0 of 6.0 GiB, the driver refuses more" in first_said
    assert "Precision: int8-fast" in first_said
    assert "Memory budget: 9.0 GiB (IMAGE_VRAM_GB)" in second_said
    assert "31 of 60 stay on the card, compiled" in second_said
    assert "as much as Windows bears" in second_said
    assert "GiB (" not in await say(stage, "admin engine list")
    second.state = EngineState.STOPPED  # what an engine without its model used is of before
    assert "(IMAGE_VRAM_GB)" not in await say(stage, "admin health")


async def test_health_says_it_in_chinese():
    with speaking("zh-CN"):
        text = "\n".join(card_lines(FREE))
    assert "显存" in text
    assert "Triton is missing" in text
    assert "Memory" not in text
