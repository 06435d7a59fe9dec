"""Blocks, prompt rules and channels over the wire, decided at the moment of asking."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.job import JobState
from bot.sandbox.model import Channel, ChannelType
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import soon, staged, text_of


async def refused(stage, name, channel="general", **options):
    answer = await (
        await stage.imagine(name, options.pop("prompt", "x"), channel, **options)
    ).answer()
    assert answer.ephemeral
    return answer.content


async def test_a_block_drops_what_waits_and_refuses_what_comes(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path, engine) as stage:
        running = await stage.imagine("chen", "running")
        await soon(engine.holding.wait())
        waiting = await stage.imagine("bob", "waiting")
        await waiting.response()
        private = await stage.imagine("bob", "elsewhere", "dm")
        await private.response()
        done = await alice.slash("general", "admin block add", user=bob.id, reason="spam @everyone")
        assert "1 waiting job was dropped" in (await done.answer()).content
        message = await stage.outcome(waiting)
        assert "you were blocked" in text_of(message)
        job = await stage.job_of(message)
        assert job.state is JobState.CANCELLED
        content = await refused(stage, "bob")
        assert "You cannot use the bot here" in content
        assert "spam" in content
        assert (
            "cannot use the bot" in (await (await bob.press(message, "Try again")).answer()).content
        )
        listing = await (await alice.slash("general", "admin block list")).answer()
        assert f"<@{bob.id}>" in listing.content
        engine.release.set()
        await stage.outcome(running)
        assert (await stage.outcome(private)).files
    async with staged(sandbox, tmp_path) as stage:
        assert "cannot use the bot" in await refused(stage, "bob")
        await (await alice.slash("general", "admin block remove", user=bob.id)).answer()
        assert (await stage.outcome(await stage.imagine("bob", "again"))).files
        actions = await stage.database.read(lambda tx: tx.all("SELECT action, target FROM audit"))
        assert [tuple(row) for row in actions] == [("block", str(bob.id)), ("unblock", str(bob.id))]


async def test_a_block_ends_by_itself(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    added = await (await alice.slash("general", "admin block add", user=bob.id, hours=1)).answer()
    assert added.content.startswith(f"<@{bob.id}> is blocked until <t:")
    assert "You can use it again <t:" in await refused(stage, "bob")
    stage.advance(3601)
    assert (await stage.outcome(await stage.imagine("bob", "later"))).files


async def test_everywhere_is_for_the_owner(sandbox, tmp_path):
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    mallory = sandbox.user("mallory")
    async with staged(sandbox, tmp_path, owner_ids=str(alice.id)) as stage:
        for options in ({}, {"everywhere": True}):
            forced = await mallory.slash(
                "general", "admin block add", force=True, user=bob.id, **options
            )
            assert "Only" in (await forced.answer()).content
        owner = await alice.slash("general", "admin block add", user=alice.id)
        assert "cannot be blocked" in (await owner.answer()).content
        await (
            await alice.slash("general", "admin block add", user=bob.id, everywhere=True)
        ).answer()
        assert "cannot use the bot" in await refused(stage, "bob", "dm")


async def test_a_hundred_at_once_against_a_block(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    asked = [asyncio.ensure_future(stage.imagine("bob", f"x {n}")) for n in range(50)]
    blocking = asyncio.ensure_future(alice.slash("general", "admin block add", user=bob.id))
    await asyncio.gather(*asked, blocking)
    await (await blocking).answer()
    for call in asked:
        await (await call).response()
    sql = "SELECT count(*) FROM jobs WHERE state = 'queued'"
    assert await stage.database.read(lambda tx: tx.value(sql)) == 0


async def test_rules_refuse_prompts_by_every_door(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("bob", "a fish"))
    for rule in ("gore", r"/\bbad\w*/", "negative: clothes"):
        assert (await (await alice.slash("general", "admin rule add", rule=rule)).answer()).content
    wrong = await (await alice.slash("general", "admin rule add", rule="/(/")).answer()
    assert "no regular expression" in wrong.content
    for prompt in ("some ＧＯＲＥ", "badly drawn", "g.о.r.e"):
        assert "rules do not allow" in await refused(stage, "bob", prompt=prompt)
    assert "rules do not allow" in await refused(stage, "bob", negative="c1othes")
    assert (await stage.outcome(await stage.imagine("bob", "x", negative="gore"))).files
    opened = await bob.press(first, "Remix")
    await opened.response()
    edited = await bob.submit_modal(opened, {"prompt": "gore", "negative": ""})
    assert "rules do not allow" in (await edited.answer()).content
    assert (await stage.outcome(await stage.imagine("bob", "gorgeous", "dm"))).files
    listing = await (await alice.slash("general", "admin rule list")).answer()
    assert "gore" in listing.content
    await (await alice.slash("general", "admin rule remove", rule="gore")).answer()
    assert (await stage.outcome(await stage.imagine("bob", "gore"))).files


async def test_channels_can_be_closed_with_their_threads(stage):
    alice = stage.sandbox.user("alice")
    art = alice.place("art").id
    await (await alice.slash("general", "admin channel deny", where=art)).answer()
    for channel in ("art", "sketches"):
        assert "does not draw in this channel" in await refused(stage, "bob", channel)
    assert (await stage.outcome(await stage.imagine("bob", "x", "general"))).files
    await (await alice.slash("general", "admin channel allow", where=art)).answer()
    assert (await stage.outcome(await stage.imagine("bob", "x", "art"))).files


def build(world, *kinds: ChannelType) -> list[Channel]:
    """Add channels to the server, each within the one before; return them."""
    made: list[Channel] = []
    for kind in kinds:
        outer = made[-1] if made else None
        name = f"{kind.name.lower()}-{len(world.channels)}"
        channel = Channel(world.new_id(), kind, name, world.guild, parent=outer)
        world.channels[channel.id] = channel
        made.append(channel)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        (ChannelType.STAGE,),
        (ChannelType.VOICE,),
        (ChannelType.ANNOUNCEMENT,),
        (ChannelType.FORUM, ChannelType.PUBLIC_THREAD),
        (ChannelType.MEDIA, ChannelType.PUBLIC_THREAD),
        (ChannelType.CATEGORY, ChannelType.TEXT),
        (ChannelType.CATEGORY, ChannelType.FORUM, ChannelType.PUBLIC_THREAD),
    ],
    ids=lambda kinds: "-".join(kind.name.lower() for kind in kinds),
)
async def test_whatever_takes_a_command_can_be_closed(sandbox, tmp_path, kinds):
    alice = sandbox.user("alice")
    places = build(sandbox.world, *kinds)
    outer, inner = places[0], places[-1]
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        running = await stage.imagine("chen", "running")
        await soon(engine.holding.wait())
        waiting = await stage.imagine("bob", "waiting", inner)
        await waiting.response()
        closing = await (await alice.slash("general", "admin channel deny", where=outer)).answer()
        assert closing.content == f"The bot no longer draws in <#{outer.id}>."
        assert "does not draw in this channel" in await refused(stage, "bob", inner)
        engine.release.set()
        assert "no longer draws in this channel" in text_of(await stage.outcome(waiting))
        assert (await stage.outcome(running)).files
        if inner is not outer:
            half = await (await alice.slash("general", "admin channel allow", where=inner)).answer()
            assert f"<#{outer.id}> around it is closed" in half.content
            assert "does not draw in this channel" in await refused(stage, "bob", inner)
        opening = await (await alice.slash("general", "admin channel allow", where=outer)).answer()
        assert opening.content == f"The bot draws in <#{outer.id}>."
        assert (await stage.outcome(await stage.imagine("bob", "x", inner))).files


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("admin rule add", {"rule": "x"}),
        ("admin rule remove", {"rule": "x"}),
        ("admin rule list", {}),
        ("admin block list", {}),
    ],
)
async def test_all_of_it_is_for_moderators(stage, command, options):
    forced = await stage.sandbox.user("mallory").slash("general", command, force=True, **options)
    assert "Manage Server" in (await forced.answer()).content


async def test_two_admins_at_once_lose_nothing_of_each_others(stage):
    alice = stage.sandbox.user("alice")
    asked = [
        await alice.slash("general", command, **options)
        for number in range(6)
        for command, options in (
            ("admin rule add", {"rule": f"word {number}"}),
            ("admin style add", {"name": f"style {number}", "prompt": "oil"}),
            ("admin channel deny", {"where": alice.place(("art", "staff")[number % 2]).id}),
        )
    ]
    for invocation in asked:
        await invocation.answer()
    preferences, guild = stage.app.client.services.preferences, alice.place("general").guild.id
    assert sorted(await preferences.rules(guild)) == [f"word {number}" for number in range(6)]
    names = [style.name for style in await preferences.styles(guild)]
    assert sorted(names) == [f"style {number}" for number in range(6)]
    assert len(await preferences.closed_places(guild)) == 2
    removed = [
        await alice.slash("general", "admin rule remove", rule=f"word {n}") for n in range(3)
    ]
    for invocation in removed:
        await invocation.answer()
    assert sorted(await preferences.rules(guild)) == [f"word {number}" for number in range(3, 6)]
    again = await (await alice.slash("general", "admin rule remove", rule="word 0")).answer()
    assert "no such rule" in again.content
