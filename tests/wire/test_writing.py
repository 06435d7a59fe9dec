"""Texts over the wire: prompts rewritten and shown or drawn, pictures described, alternative texts."""

from __future__ import annotations

import re

import pytest

from bot.domain.job import JobState
from bot.errors import EngineError, EngineErrorKind
from bot.sandbox.scene import ADMIN_ROLE_ID
from tests.engines import Script, ScriptedEngine
from tests.hostile.corpus import ACCEPTED
from tests.hostile.test_prompts import judge_bodies
from tests.wire.kit import controls, is_outcome, job_id_of, staged, text_of
from tests.wire.test_compose import opened_form
from tests.wire.test_edits import BOTH, picture
from tests.wire.test_pictures_in import png


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **BOTH) as running:
        yield running


def is_written(message) -> bool:
    return any(re.match(r"(own|imagine):", custom_id) for custom_id in controls(message))


async def written(used):
    return await used.until(is_written, timeout=30)


def labels(message) -> list[str]:
    return [str(item["label"]) for item in message.controls]


async def shown_first(stage, prompt="a cat", **options):
    return await written(await stage.imagine("alice", prompt, enhance="ask", **options))


async def test_a_forms_prompt_is_rewritten_too(stage):
    bob = stage.sandbox.user("bob")
    opened, _, _ = await opened_form(bob, enhance="ask", seed=5)
    message = await written(await bob.submit_modal(opened, {"prompt": "a\ncat"}))
    assert labels(message) == ["Draw this", "Change", "Draw mine"]
    assert "in soft light" in text_of(message)
    drawn = await stage.outcome(await bob.press(message, "Draw mine"))
    request = (await stage.job_of(drawn)).request
    assert (request.prompt, request.seed, request.rewritten) == ("a\ncat", 5, "")


async def test_a_rewritten_prompt_is_shown_before_anything_is_drawn(stage):
    message = await shown_first(stage, seed=5, aspect="7:4")
    assert labels(message) == ["Draw this", "Change", "Draw mine"]
    assert "a cat, in soft light" in text_of(message)
    assert "You wrote: a cat" in text_of(message)
    assert (await stage.delivered(job_id_of(message))).rung == "token"
    assert stage.engine.requests == []
    bob = stage.sandbox.user("bob")
    drawn = await stage.outcome(await bob.press(message, "Draw this"))
    job = await stage.job_of(drawn)
    assert (job.request.prompt, job.request.rewritten) == ("a cat", "a cat, in soft light")
    assert (job.user_id, job.model, job.request.seed) == (bob.id, "tiny", 5)
    (asked,) = stage.engine.requests
    assert (asked.prompt, asked.model, asked.width) == ("a cat, in soft light", "tiny", 384)
    # What was typed stays with the picture; Details has both.
    assert "rewritten prompt" in text_of(drawn)
    details = (await (await bob.press(drawn, "Details")).answer()).content
    assert "a cat, in soft light" in details
    assert "What was typed: a cat" in details
    listed = await (await bob.slash("general", "history")).answer()
    assert "1. a cat" in listed.content


async def test_ones_own_words_and_changed_ones_are_drawn_as_they_stand(stage):
    message = await shown_first(stage)
    alice = stage.sandbox.user("alice")
    own = await stage.job_of(await stage.outcome(await alice.press(message, "Draw mine")))
    assert (own.request.prompt, own.request.rewritten) == ("a cat", "")
    opened = await alice.press(message, "Change")
    form = (await opened.response()).modal
    assert form.components[0]["component"]["value"] == "a cat, in soft light"
    used = await alice.submit_modal(opened, {"prompt": "a dog, in soft light"})
    changed = await stage.job_of(await stage.outcome(used))
    assert (changed.request.prompt, changed.request.rewritten) == ("a dog, in soft light", "")
    opened = await alice.press(message, "Change")
    await opened.response()
    used = await alice.submit_modal(opened, {"prompt": "a cat, in soft light"})
    same = await stage.job_of(await stage.outcome(used))
    assert (same.request.prompt, same.request.rewritten) == ("a cat", "a cat, in soft light")
    assert [asked.prompt for asked in stage.engine.requests] == [
        "a cat",
        "a dog, in soft light",
        "a cat, in soft light",
    ]


async def test_what_is_no_rewrite_offers_ones_own_words_alone(stage):
    stage.engine.answers.append("a sign that is open")
    message = await shown_first(stage, 'a sign "OPEN"')
    assert labels(message) == ["Draw mine", "Change"]
    assert "changed the quoted text" in text_of(message)
    drawn = await stage.outcome(await stage.sandbox.user("alice").press(message, "Draw mine"))
    assert (await stage.job_of(drawn)).request.prompt == 'a sign "OPEN"'


async def test_where_nothing_can_be_rewritten_ones_own_words_are_offered(stage):
    stage.engine.writing.append(Script(error=EngineError(EngineErrorKind.OUT_OF_MEMORY, "detail")))
    message = await shown_first(stage)
    assert labels(message) == ["Draw mine", "Change"]
    assert "could not be rewritten just now" in text_of(message)
    drawn = await stage.outcome(await stage.sandbox.user("alice").press(message, "Draw mine"))
    assert (await stage.job_of(drawn)).request.prompt == "a cat"


async def test_always_rewrites_then_draws_and_says_where_it_did_not(stage):
    stage.engine.answers.extend(["a cat on a wall", "three dogs"])
    first = await stage.outcome(await stage.imagine("alice", "a cat", enhance="always"))
    second = await stage.outcome(await stage.imagine("alice", "two dogs", enhance="always"))
    assert [asked.prompt for asked in stage.engine.requests] == ["a cat on a wall", "two dogs"]
    assert "Drawn from a rewritten prompt" in text_of(first)
    assert "your own words: the rewritten prompt lost or changed a number" in text_of(second)
    again = await stage.outcome(await stage.sandbox.user("bob").press(first, "Reroll"))
    assert (await stage.job_of(again)).request.rewritten == "a cat on a wall"
    assert len(stage.engine.asked) == 2
    opened = await stage.sandbox.user("bob").press(first, "Remix")
    form = (await opened.response()).modal
    assert form.components[0]["component"]["value"] == "a cat"


async def test_defaults_decide_where_nothing_is_said_and_off_is_off(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    panel = await (await alice.slash("general", "admin defaults")).answer()
    opened = await alice.press(panel, "pref:guild:more")
    await opened.response()
    await (await alice.select(panel, "prefs:guild:enhance", "always")).response()
    drawn = await stage.outcome(await stage.imagine("bob", "a cat"))
    assert (await stage.job_of(drawn)).request.rewritten
    drawn = await stage.outcome(await stage.imagine("bob", "a cat", enhance="off"))
    assert not (await stage.job_of(drawn)).request.enhance
    panel = await (await bob.slash("general", "settings")).answer()
    assert {"name": "Prompts", "value": "always: rewritten, then drawn (the server's)"}.items() <= (
        next(f for f in panel.embeds[0]["fields"] if f["name"] == "Prompts").items()
    )
    await (await bob.press(panel, "pref:user:more")).response()
    await (await bob.select(panel, "prefs:user:enhance", "ask")).response()
    assert is_written(await written(await stage.imagine("bob", "a cat")))


async def test_an_instruction_is_rewritten_with_its_pictures_seen(sandbox, tmp_path):
    model = {"image_model_name": "Qwen/Qwen-Image-Edit-2511"}
    async with staged(sandbox, tmp_path, **model) as stage:
        alice, one = sandbox.user("alice"), picture((64, 64))
        options = {"instruction": "make it night", "image": ("a.png", one)}
        message = await written(await alice.slash("general", "edit", enhance="ask", **options))
        (asked,) = stage.engine.asked
        assert stage.engine.seen_by_writer[asked.job_id] == [one]
        assert "edits pictures" in asked.system
        drawn = await stage.outcome(await alice.press(message, "Draw this"))
        job = await stage.job_of(drawn)
        assert stage.engine.references[job.id] == [one]
        assert stage.engine.requests[0].prompt == "make it night, in soft light"
        await stage.outcome(await alice.slash("general", "edit", enhance="always", **options))
        assert stage.engine.requests[1].prompt == "make it night, in soft light"
        assert len(stage.engine.seen_by_writer) == 2


async def test_a_text_waits_in_the_queue_is_cancelled_and_shown_again(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        alice = sandbox.user("alice")
        stage.engine.scripts.append(Script(hold_at=1))
        await stage.asked("bob")
        waiting = await stage.imagine("alice", "a cat", enhance="ask")
        message = await waiting.answer()
        job_id = job_id_of(message)
        assert "ahead" in text_of(message) or "Next" in text_of(message)
        listing = (await (await alice.slash("general", "queue")).answer()).content
        assert "prompt to rewrite" in listing
        await (await alice.press(message, "Cancel")).answer()
        assert (await stage.delivered(job_id)).state == "delivered"
        assert (await stage.queue.job(job_id)).state is JobState.CANCELLED
        again = await alice.press(await waiting.until(is_outcome), "Try again")
        stage.engine.release.set()
        message = await written(again)
        shown = await (await alice.slash("general", "show", job=job_id_of(message))).until(
            is_written
        )
        assert "a cat, in soft light" in text_of(shown)


@pytest.mark.slow
async def test_a_hostile_prompt_pings_nobody_and_breaks_no_card(sandbox, tmp_path):
    limits = {"limit_open_jobs": 100, "limit_images_per_day": 1000}
    async with staged(sandbox, tmp_path, **BOTH, **limits) as stage:
        for prompt in ACCEPTED.values():
            stage.engine.answers.append(prompt)
            await shown_first(stage, prompt)
        judge_bodies(sandbox, sandbox.user("alice").id)


async def test_an_alternative_text_is_added_once_and_nobody_waits(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, alt_text="written", **BOTH) as stage:
        used = await stage.imagine("alice", "a house")
        first = await stage.outcome(used)
        job_id = job_id_of(first)
        await sandbox.wait(
            lambda: (
                [file.description for message in stage.visible() for file in message.files]
                == ["A grey square."]
            )
        )
        (text_job,) = await stage.database.read(
            lambda tx: tx.all("SELECT id FROM jobs WHERE source_id = ?", (f"a{job_id}",))
        )
        delivery = await stage.delivered(text_job["id"])
        assert delivery.state == "delivered"
        (message,) = stage.visible()
        assert message.files[0].data == first.files[0].data
        assert stage.engine.seen_by_writer[text_job["id"]] == [first.files[0].data]
        # It is no answer of anybody's, and its copy of the picture is gone.
        assert await stage.queue.open_jobs() == []
        assert stage.app.client.services.gallery.inputs.job_ids() == set()
        shown = await stage.sandbox.user("alice").slash("general", "show", job=job_id)
        shown = await shown.until(is_outcome)
        assert [file.description for file in shown.files] == ["A grey square."]
        hidden = await stage.outcome(await stage.imagine("alice", "a secret", private=True))
        await stage.delivered(job_id_of(hidden))
        assert len(stage.engine.asked) == 1


async def test_without_it_the_prompt_is_the_alternative_text(stage):
    message = await stage.outcome(await stage.imagine("alice", "a house"))
    await stage.delivered(job_id_of(message))
    assert [file.description for file in message.files] == ["a house"]
    assert stage.engine.asked == []


async def test_a_bot_whose_model_does_not_write_offers_and_refuses(sandbox, tmp_path):
    async with staged(sandbox, tmp_path) as stage:
        one = picture((64, 64))
        used = await sandbox.user("alice").slash("general", "describe", image=("a.png", one))
        assert "None of this bot's models writes" in text_of(await used.answer())
        assert await stage.jobs_made() == 0


async def allow_admins(stage, model):
    """Keep a model for a role that alice has, and bob has not."""
    used = await stage.sandbox.user("alice").slash(
        "general", "admin model allow", model=model, role=ADMIN_ROLE_ID
    )
    await used.answer()


async def prefer_for_all(stage, mode):
    alice = stage.sandbox.user("alice")
    panel = await (await alice.slash("general", "admin defaults")).answer()
    await (await alice.press(panel, "pref:guild:more")).response()
    await (await alice.select(panel, "prefs:guild:enhance", mode)).response()


@pytest.mark.parametrize("mode", ["ask", "always"])
async def test_a_writer_that_one_may_not_use_turns_a_default_off_and_is_told_of_when_asked_for(
    stage, mode
):
    await allow_admins(stage, "tiny-edit")
    await prefer_for_all(stage, mode)
    bob = stage.sandbox.user("bob")
    drawn = await stage.job_of(await stage.outcome(await stage.imagine("bob", "a cat")))
    assert (drawn.request.prompt, drawn.request.rewritten, drawn.request.unrewritten) == (
        *("a cat", "", ""),
    )
    opened, _, _ = await opened_form(bob)
    await stage.outcome(await bob.submit_modal(opened, {"prompt": "a dog"}))
    assert stage.engine.asked == []
    panel = await (await bob.slash("general", "settings")).answer()
    assert "Prompts" not in [field["name"] for field in panel.embeds[0]["fields"]]
    refused = await stage.imagine("bob", "a cat", enhance=mode)
    words = "None of the models that you may use here writes texts."
    assert words in text_of(await refused.answer())
    one = picture((64, 64))
    refused = await bob.slash("general", "describe", image=("a.png", one))
    assert words in text_of(await refused.answer())
    # Whoever may use it has it as before, there and by the buttons.
    used = await stage.imagine("alice", "a cat")
    await (written(used) if mode == "ask" else stage.outcome(used))
    assert len(stage.engine.asked) == 1


async def test_the_writer_is_one_that_may_be_used_for_ask_and_always_and_what_is_made_of_them(
    sandbox, tmp_path
):
    first, second = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"
    models = {
        "image_model_name": "stabilityai/stable-diffusion-xl-base-1.0",
        "image_models": f"{first},{second}",
    }
    async with staged(sandbox, tmp_path, **models) as stage:
        bob = sandbox.user("bob")
        used = await stage.imagine("bob", "a cat", enhance="always")
        open_to_all = await stage.outcome(used)
        await allow_admins(stage, first)
        assert is_written(await written(await stage.imagine("bob", "a cat", enhance="ask")))
        drawn = await stage.outcome(await stage.imagine("bob", "a cat", enhance="always"))
        assert (await stage.job_of(drawn)).request.rewritten
        # Other words are rewritten anew, by whoever may be asked now.
        opened = await bob.press(open_to_all, "Remix")
        await opened.response()
        await stage.outcome(await bob.submit_modal(opened, {"prompt": "a dog"}))
        assert [asked.model for asked in stage.engine.asked] == [first, second, second, second]
        assert {request.model for request in stage.engine.requests} == {models["image_model_name"]}


async def test_a_text_is_tried_again_by_a_writer_that_may_be_used(sandbox, tmp_path):
    first, second = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"
    models = {"image_model_name": first, "image_models": second}
    engine = ScriptedEngine()
    engine.writing.append(Script(error=EngineError(EngineErrorKind.REFUSED, "detail")))
    async with staged(sandbox, tmp_path, engine, **models) as stage:
        bob = sandbox.user("bob")
        used = await bob.slash("general", "describe", image=("a.png", png()))
        failed = await used.until(lambda message: "Try again" in labels(message))
        await allow_admins(stage, first)
        assert is_written(await written(await bob.press(failed, "Try again")))
        assert [asked.model for asked in engine.asked] == [first, second]


async def test_a_form_opens_for_a_text_when_no_picture_is_left(sandbox, tmp_path):
    """A prompt that is rewritten and shown counts none, and may be drawn on another day."""
    settings = {"limit_images_per_day": 1, "image_model_name": "Qwen/Qwen-Image-Edit-2511"}
    async with staged(sandbox, tmp_path, **settings) as stage:
        alice = sandbox.user("alice")
        one = picture((64, 64))
        options = {"instruction": "make it day", "image": ("a.png", one)}
        message = await stage.outcome(await alice.slash("general", "edit", **options))
        for menu in ("Use as input", "Edit this picture"):
            refused = await alice.context_menu("general", menu, message)
            assert "pictures" in (await refused.answer()).content
        services = stage.app.client.services
        await services.preferences.set_user(alice.id, {"enhance": "ask"})
        for menu in ("Use as input", "Edit this picture"):
            opened = await alice.context_menu("general", menu, message)
            assert (await opened.response()).modal is not None
        used = await alice.submit_modal(opened, {"instruction": "make it night"})
        assert is_written(await written(used))
