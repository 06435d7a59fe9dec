"""What can be asked for: every option, the form, styles, own and server defaults."""

from __future__ import annotations

import pytest

from bot.catalogue.styles import BUILT_IN
from tests.wire.kit import staged, text_of


async def request_of(stage, invocation):
    return (await stage.job_of(await stage.outcome(invocation))).request


async def test_every_option_reaches_the_engine(stage):
    invocation = await stage.imagine(
        "alice",
        "a fish",
        aspect="3:4",
        quality="fast",
        style="watercolour",
        count=2,
        negative="fog",
        seed=11,
        steps=3,
        guidance=2.5,
    )
    message = await stage.outcome(invocation)
    drawn = stage.engine.requests[-1]
    assert (drawn.width, drawn.height, drawn.steps, drawn.guidance) == (256, 336, 3, 2.5)
    assert drawn.seeds == (11, 12)
    assert drawn.prompt.startswith("a fish, watercolour painting")
    assert drawn.negative_prompt == "fog, photograph"
    assert "style watercolour" in text_of(message)
    details = await (await stage.sandbox.user("bob").press(message, "Details")).answer()
    assert "Added to the prompt: watercolour painting" in details.content


async def test_a_form_for_many_lines_keeps_the_options(sandbox, tmp_path):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path) as stage:
        opened = await alice.slash(
            "general",
            "compose",
            aspect="16:9",
            seed=2**53 - 1,
            guidance=1.5,
            count=2,
            negative="fog",
        )
        assert (await opened.response()).modal
    async with staged(sandbox, tmp_path) as stage:
        words = {"prompt": 'two lines\nthat say "OPEN"'}
        sent = await alice.submit_modal(opened, words)
        request = await request_of(stage, sent)
    assert request.prompt == 'two lines\nthat say "OPEN"'
    assert (request.aspect, request.seed, request.guidance) == ("16:9", 2**53 - 1, 1.5)
    assert (request.count, request.negative_prompt, request.private) == (2, "fog", False)


async def test_what_cannot_go_together_is_said(stage):
    alice = stage.sandbox.user("alice")
    for command, options, words in (
        ("imagine", {"prompt": "x", "strength": 0.5}, "Add an image"),
        ("imagine", {"prompt": "x", "style": "no such style"}, "no style of that name"),
        ("compose", {"style": "y" * 100}, "no style of that name"),
    ):
        answer = await (await alice.slash("general", command, **options)).answer()
        assert answer.ephemeral
        assert words in answer.content
    assert await stage.jobs_made() == 0


async def test_styles_are_offered_and_a_servers_own_come_first(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    added = await alice.slash(
        "general", "admin style add", name="House Look", prompt="teal and gold", negative="red"
    )
    assert "House Look" in (await added.answer()).content
    offered = await bob.autocomplete("general", "imagine", "style", prompt="x")
    assert offered[0]["name"] == "House Look"
    assert len(offered) == len(BUILT_IN) + 1
    assert await bob.autocomplete("general", "imagine", "style", prompt="x", style="pIX") == [
        {"name": "pixel art", "value": "pixel art"}
    ]
    chen = await stage.sandbox.user("chen").autocomplete("general", "imagine", "style", style="水")
    assert {choice["name"] for choice in chen} == {"水彩", "水墨"}
    request = await request_of(stage, await stage.imagine("bob", "x", style="house look"))
    assert (request.added, request.added_negative) == ("teal and gold", "red")
    elsewhere = await bob.autocomplete("dm", "imagine", "style", prompt="x")
    assert "House Look" not in {choice["name"] for choice in elsewhere}
    listing = await (await alice.slash("general", "admin style list")).answer()
    assert "teal and gold" in listing.content
    await (await alice.slash("general", "admin style remove", name="HOUSE look")).answer()
    gone = await (await stage.imagine("bob", "x", style="house look")).answer()
    assert "no style of that name" in gone.content
    for number in range(30):
        await (
            await alice.slash("general", "admin style add", name=f"-{number}", prompt="x")
        ).answer()
    await (await alice.slash("general", "admin style add", name="-", prompt="x")).answer()
    for command in ("settings", "admin defaults"):
        panel = await (await alice.slash("general", command)).answer()
        menu = next(c for c in panel.controls if c["custom_id"].endswith(":style"))
        values = [option["value"] for option in menu["options"]]
        assert len(values) == len(set(values)) <= 25
        assert {style.name for style in BUILT_IN} < set(values)
    nameless = await alice.slash("general", "admin style add", name="none", prompt="x")
    assert "name of its own" in (await nameless.answer()).content
    again = await (await alice.slash("general", "admin style remove", name="House Look")).answer()
    assert "no style of that name" in again.content


@pytest.mark.parametrize("command", ["admin style add", "admin style list", "admin defaults"])
async def test_styles_and_defaults_are_for_admins(stage, command):
    options = {"name": "a", "prompt": "b"} if command.endswith("add") else {}
    forced = await stage.sandbox.user("mallory").slash("general", command, force=True, **options)
    answer = await forced.answer()
    assert answer.ephemeral
    assert "Manage Server" in answer.content


async def test_own_defaults_win_over_the_servers_and_survive_a_restart(sandbox, tmp_path):
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        shared = await (await alice.slash("general", "admin defaults")).answer()
        await (await alice.select(shared, "prefs:guild:aspect", "16:9")).response()
        await (await alice.select(shared, "prefs:guild:quality", "high")).response()
        own = await (await bob.slash("general", "settings")).answer()
        await (await bob.select(own, "prefs:user:aspect", "3:4")).response()
        await (await bob.select(own, "prefs:user:style", "ink")).response()
        opened = await bob.press(own, "pref:user:negative")
        await opened.response()
    async with staged(sandbox, tmp_path) as stage:
        await (await bob.submit_modal(opened, {"negative": "fog"})).answer()
        await (await bob.press(own, "pref:user:private")).response()
        fields = {field["name"]: field["value"] for field in own.embeds[0]["fields"]}
        assert fields["Shape"] == "3:4 portrait"
        assert fields["Private"] == "yes"
        invocation = await stage.imagine("bob", "a fish")
        assert (await invocation.answer()).ephemeral
        request = await request_of(stage, invocation)
        assert (request.aspect, request.quality, request.style) == ("3:4", "high", "ink")
        assert request.negative_prompt == "fog"
        explicit = await request_of(
            stage, await stage.imagine("bob", "x", aspect="1:1", private=False, style="none")
        )
        assert (explicit.aspect, explicit.private, explicit.style) == ("1:1", False, None)
        elsewhere = await request_of(stage, await stage.imagine("bob", "x", channel="dm"))
        assert (elsewhere.aspect, elsewhere.quality) == ("3:4", "standard")
        nothing = await request_of(stage, await stage.imagine("bob", "x", negative="none"))
        assert not nothing.negative_prompt
        opened = await bob.slash("general", "compose")
        assert (await opened.response()).modal
        usual = await bob.submit_modal(opened, {"prompt": "x"})
        assert (await request_of(stage, usual)).negative_prompt == "fog"
        for wanted in ("no", "no (the bot's)"):
            await (await bob.press(own, "pref:user:private")).response()
            fields = {field["name"]: field["value"] for field in own.embeds[0]["fields"]}
            assert fields["Private"] == wanted
        await (await bob.press(own, "pref:user:reset")).response()
        request = await request_of(stage, await stage.imagine("bob", "x"))
        assert (request.aspect, request.style, request.private) == ("16:9", None, False)
        audited = await stage.database.read(lambda tx: tx.all("SELECT action, detail FROM audit"))
        assert [tuple(row) for row in audited] == [("settings", "aspect"), ("settings", "quality")]


async def test_how_many_pictures_a_request_draws_is_a_default_of_server_and_user(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    shared = await (await alice.slash("general", "admin defaults")).answer()
    await (await alice.press(shared, "pref:guild:more")).response()
    await (await alice.select(shared, "prefs:guild:count", "4")).response()
    fields = {field["name"]: field["value"] for field in shared.embeds[0]["fields"]}
    assert fields["Pictures"] == "4 pictures"
    assert (await request_of(stage, await stage.imagine("bob", "x"))).count == 4
    assert (await request_of(stage, await stage.imagine("bob", "x", channel="dm"))).count == 1
    own = await (await bob.slash("general", "settings")).answer()
    await (await bob.press(own, "pref:user:more")).response()
    await (await bob.select(own, "prefs:user:count", "2")).response()
    assert (await request_of(stage, await stage.imagine("bob", "x"))).count == 2
    assert (await request_of(stage, await stage.imagine("bob", "x", count=1))).count == 1


async def test_a_server_s_settings_are_not_changed_by_whoever_sees_the_message(stage):
    alice = stage.sandbox.user("alice")
    shared = await (await alice.slash("general", "admin defaults")).answer()
    guild = alice.place("general").guild
    guild.members[alice.id].roles.clear()
    guild.owner_id = stage.sandbox.user("bob").id
    answer = await (await alice.select(shared, "prefs:guild:aspect", "16:9")).answer()
    assert "Manage Server" in answer.content


async def test_qualities_and_the_suffix_are_settings(sandbox, tmp_path):
    settings = {"image_quality_fast": "5:1.5", "image_prompt_suffix": True}
    async with staged(sandbox, tmp_path, **settings) as stage:
        english = await request_of(stage, await stage.imagine("bob", "a fish", quality="fast"))
        assert (english.steps, english.guidance) == (5, 1.5)
        assert english.added == "Ultra HD, 4K, cinematic composition."
        chinese = await request_of(stage, await stage.imagine("chen", "一条鱼 fish"))
        assert chinese.added == "超清，4K，电影级构图."
        assert stage.engine.requests[-1].prompt == "一条鱼 fish, 超清，4K，电影级构图."
