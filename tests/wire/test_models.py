"""Several models over the wire: chosen, completed, defaults, roles, and what keeps a model."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from bot.errors import EngineError, EngineErrorKind
from bot.sandbox.scene import ADMIN_ROLE_ID
from tests.engines import Script, ScriptedEngine
from tests.jobs.test_loras import lora_for
from tests.wire.kit import byline_of, controls, is_outcome, soon, staged, text_of

SEVERAL = {"image_models": "tiny,tiny-ink"}


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **SEVERAL) as running:
        yield running


async def said(invocation):
    answer = await invocation.answer()
    assert answer.ephemeral
    return text_of(answer)


def drawn(stage) -> list[str]:
    return [request.model for request in stage.engine.requests]


async def offered(stage, name="bob", command="imagine", text=""):
    options = {"prompt": "x"} if command == "imagine" else {}
    person = stage.sandbox.user(name)
    found = await person.autocomplete("general", command, "model", model=text, **options)
    return [choice["value"] for choice in found]


async def test_a_model_is_chosen_completed_and_kept_by_what_follows(stage):
    bob, alice = stage.sandbox.user("bob"), stage.sandbox.user("alice")
    assert await offered(stage) == ["tiny", "tiny-ink"]
    assert await offered(stage, command="compose", text="ink") == ["tiny-ink"]
    first = await stage.outcome(await stage.imagine("bob", "a boat", model="INK"))
    assert "tiny-ink" in byline_of(first)
    with Image.open(io.BytesIO(first.files[0].data)) as picture:
        assert json.loads(picture.text["request"])["model"] == "tiny-ink"
    assert "Model: tiny-ink" in (await (await bob.press(first, "Details")).answer()).content
    assert "a boat · tiny-ink · <t:" in await said(await bob.slash("general", "history"))
    rerolled = await stage.outcome(await alice.press(first, "Reroll"))
    varied = await stage.outcome(await alice.press(rerolled, "Vary"))
    larger = await stage.outcome(await alice.press(varied, "Upscale"))
    opened = await alice.press(larger, "Remix")
    await opened.response()
    await stage.outcome(await alice.submit_modal(opened, {"prompt": "a ship"}))
    plain = await stage.outcome(await stage.imagine("bob", "a boat"))
    assert "tiny" in byline_of(plain)
    assert drawn(stage) == ["tiny-ink"] * 5 + ["tiny"]


async def test_an_unknown_model_is_told_and_the_form_remembers_a_known_one(stage):
    bob = stage.sandbox.user("bob")
    for command, prompt in (("imagine", {"prompt": "x"}), ("compose", {})):
        told = await said(await bob.slash("general", command, model="zebra", **prompt))
        assert "There is no model of that name; there are: `tiny`, `tiny-ink`." in told
    opened = await bob.slash("general", "compose", model="tiny-ink", style="anime", steps=3)
    await opened.response()
    message = await stage.outcome(await bob.submit_modal(opened, {"prompt": "a boat"}))
    job = await stage.job_of(message)
    assert (job.model, job.request.style, job.request.steps) == ("tiny-ink", "anime", 3)


async def test_one_model_is_not_asked_for(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data") as stage:
        commands = {
            command.name: command for command in await stage.app.client.tree.fetch_commands()
        }
        for name in ("imagine", "compose"):
            assert "model" not in [option.name for option in commands[name].options]
        assert "model" not in [option.name for option in commands["admin"].options]
        message = await stage.outcome(await stage.imagine("bob", "a boat"))
        assert byline_of(message)[1:-1] == ["256x256"]
        alice = sandbox.user("alice")
        panel = await (await alice.slash("general", "settings")).answer()
        assert "prefs:user:model" not in controls(panel)


async def test_ones_own_default_counts_before_the_servers(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    panel = await (await alice.slash("general", "admin defaults")).answer()
    await (await alice.select(panel, "prefs:guild:model", "tiny-ink")).answer()
    await stage.outcome(await stage.imagine("bob", "by the server's"))
    panel = await (await bob.slash("general", "settings")).answer()
    await (await bob.select(panel, "prefs:user:model", "tiny")).answer()
    await stage.outcome(await stage.imagine("bob", "by one's own"))
    await stage.outcome(await stage.imagine("bob", "by name", model="tiny-ink"))
    await stage.outcome(await stage.imagine("bob", "the server's ends here", "dm"))
    panel = await (await bob.slash("dm", "settings")).answer()
    await (await bob.select(panel, "prefs:user:model", "tiny-ink")).answer()
    await bob.send("dm", "a house")
    await stage.sandbox.wait(
        lambda: [m for m in bob.messages("dm") if is_outcome(m) and "a house" in text_of(m)]
    )
    assert drawn(stage) == ["tiny-ink", "tiny", "tiny-ink", "tiny", "tiny-ink"]


async def test_a_default_that_is_gone_falls_back_and_the_panel_says_so(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path / "data", **SEVERAL) as stage:
        services = stage.app.client.services
        await services.preferences.set_user(bob.id, {"model": "tiny-old"})
        panel = await (await bob.slash("general", "settings")).answer()
        fields = {field["name"]: field["value"] for field in panel.embeds[0]["fields"]}
        assert fields["Model"] == "tiny-old, which is no longer offered"
        await stage.outcome(await stage.imagine("bob", "a boat"))
        await bob.press(panel, "pref:user:reset")
        assert drawn(stage) == ["tiny"]


async def test_the_language_has_a_page_of_its_own_where_models_take_its_row(stage):
    bob = stage.sandbox.user("bob")
    panel = await (await bob.slash("general", "settings")).answer()
    assert "prefs:user:language" not in controls(panel)
    pressed = await bob.press(panel, "Language")
    page = await pressed.until(lambda message: "prefs:user:language" in controls(message))
    chosen = await bob.select(page, "prefs:user:language", "zh_CN")
    panel = await chosen.until(lambda message: "prefs:user:model" in controls(message))
    assert panel.embeds[0]["title"] == "你的设置"
    told = await said(await bob.slash("general", "imagine", prompt="x", model="zebra"))
    assert told == "没有这个名称的模型；可用的有：`tiny`, `tiny-ink`。"


async def test_roles_decide_who_sees_and_uses_a_model(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    before = await stage.outcome(await stage.imagine("bob", "a boat", model="tiny-ink"))
    allowed = await said(
        await alice.slash("general", "admin model allow", model="ink", role=ADMIN_ROLE_ID)
    )
    assert allowed == f"`tiny-ink`: <@&{ADMIN_ROLE_ID}>"
    assert await offered(stage) == ["tiny"]
    assert await offered(stage, "alice") == ["tiny", "tiny-ink"]
    words = f"In this server the model tiny-ink is for: <@&{ADMIN_ROLE_ID}>."
    assert words in await said(await stage.imagine("bob", "x", model="tiny-ink"))
    for button in ("Reroll", "Vary", "Remix", "Upscale"):
        assert words in await said(await bob.press(before, button))
    # As a default it is passed by, for those who may not.
    panel = await (await alice.slash("general", "admin defaults")).answer()
    await (await alice.select(panel, "prefs:guild:model", "tiny-ink")).answer()
    await stage.outcome(await stage.imagine("bob", "a boat"))
    await stage.outcome(await stage.imagine("alice", "a boat"))
    # What a server has set does not hold elsewhere.
    await stage.outcome(await stage.imagine("bob", "a boat", "dm", model="tiny-ink"))
    assert drawn(stage) == ["tiny-ink", "tiny", "tiny-ink", "tiny-ink"]


async def test_a_model_is_denied_listed_and_free_again(stage):
    alice = stage.sandbox.user("alice")
    await said(await alice.slash("general", "admin model deny", model="tiny"))
    listed = await said(await alice.slash("general", "admin model list"))
    assert listed == "`tiny`: nobody\n`tiny-ink`: everyone"
    told = await said(await stage.imagine("bob", "x", model="tiny"))
    assert told == "Nobody may use the model tiny in this server."
    message = await stage.outcome(await stage.imagine("bob", "what is left"))
    assert "tiny-ink" in byline_of(message)
    again = await said(await alice.slash("general", "admin model remove", model="tiny"))
    assert again == "`tiny`: everyone"
    none = await said(await alice.slash("general", "admin model remove", model="tiny"))
    assert none == "Nothing of the kind is set about this model."
    bob = stage.sandbox.user("bob")
    refused = await bob.slash("general", "admin model deny", force=True, model="tiny")
    assert "Manage Server" in await said(refused)


async def test_what_the_default_model_failed_is_not_drawn_by_another_unasked(sandbox, tmp_path):
    error = EngineError(EngineErrorKind.REFUSED, "detail")
    engine = ScriptedEngine(Script(error=error, error_at=1))
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path / "data", engine, **SEVERAL) as stage:
        failed = await stage.outcome(await stage.imagine("bob", "a boat"))
        await said(await alice.slash("general", "admin model deny", model="tiny"))
        told = await said(await bob.press(failed, "Try again"))
        assert told == "Nobody may use the model tiny in this server."
        assert drawn(stage) == ["tiny"]


async def test_a_rule_set_while_a_form_is_open_holds_at_its_submission(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    opened = await bob.slash("general", "compose", model="tiny-ink")
    await opened.response()
    await said(await alice.slash("general", "admin model deny", model="tiny-ink"))
    sent = await bob.submit_modal(opened, {"prompt": "a boat"})
    assert "Nobody may use the model tiny-ink" in await said(sent)
    assert await stage.jobs_made() == 0


async def test_jobs_of_a_model_that_is_gone_are_told_and_drawn_anew_by_another(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    bob, data = sandbox.user("bob"), tmp_path / "data"
    async with staged(sandbox, data, engine, **SEVERAL) as stage:
        first = await stage.imagine("bob", "a house")
        await soon(engine.holding.wait())
        asked = await stage.imagine("bob", "a boat", model="tiny-ink")
        waiting = await asked.answer()
        lines = await said(await bob.slash("general", "queue"))
        assert "a house · tiny · " in lines
        assert "a boat · tiny-ink · " in lines
        await stage.cut()
    async with staged(sandbox, data) as stage:
        gone = await stage.outcome(asked)
        assert gone.id == waiting.id
        assert "Cancelled: the model tiny-ink is no longer offered." in text_of(gone)
        # Its model is named, though there is one alone by now; that one is not.
        assert "tiny-ink" in byline_of(gone)
        assert byline_of(await stage.outcome(first))[1:-1] == ["256x256"]
        pressed = await bob.press(gone, "Try again")
        again = await stage.outcome(pressed)
        await sandbox.wait(lambda: pressed.followups)
        (told,) = pressed.followups
        assert told.content == "tiny-ink is no longer offered; this is drawn by tiny."
        job = await stage.job_of(again)
        assert (job.model, job.request.prompt) == ("tiny", "a boat")
        used = await said(await bob.slash("general", "limits"))
        assert "2 of 100 pictures" in used


@pytest.mark.slow
async def test_each_model_has_its_own_sizes_and_loras(sandbox, tmp_path):
    older, newer = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2.1"
    shelf = tmp_path / "loras"
    shelf.mkdir()
    lora_for(shelf / "ink.safetensors", "img_mlp.net.2")
    lora_for(shelf / "clay.safetensors", "img_mlp.out")
    settings = {
        "image_model_name": older,
        "image_models": f"{older},{newer}",
        "image_lora_path": shelf,
    }
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path / "data", **settings) as stage:

        async def loras(**options) -> list[str]:
            found = await bob.autocomplete(
                "general", "imagine", "lora", prompt="x", lora="", **options
            )
            return [choice["value"] for choice in found]

        assert await loras() == ["ink"]
        assert await loras(model="2.1") == ["clay"]
        assert await loras(model="zebra") == []
        told = await said(await stage.imagine("bob", "x", model="2.1", lora="ink"))
        assert told == f"The LoRA `ink` is made for another model, not for {newer}."
        square = {"aspect": "1:1"}
        first = await stage.outcome(await stage.imagine("bob", "x", lora="ink", **square))
        other = await stage.outcome(
            await stage.imagine("bob", "x", model="2.1", lora="clay", **square)
        )
        assert {"Qwen-Image", "LoRA ink", "1328x1328"} <= set(byline_of(first))
        assert {"Qwen-Image-2.1", "LoRA clay", "1024x1024"} <= set(byline_of(other))
        guidance = [(request.model, request.guidance) for request in stage.engine.requests]
        assert guidance == [(older, 4.0), (newer, 1.0)]
