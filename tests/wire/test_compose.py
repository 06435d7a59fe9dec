"""`/compose`: the form with menus and a file, and states that are too long for Discord."""

from __future__ import annotations

import json

import aiohttp
import pytest

from bot.client.forms import KEPT
from bot.domain.request import PROMPT_LIMIT
from bot.jobs.compose import DEFAULT_STRENGTH
from bot.messages.discord_limits import CUSTOM_ID_LENGTH
from bot.sandbox.errors import Refusal
from bot.sandbox.people import Invocation
from storage import form_states
from storage.form_states import KEPT_A_USER
from tests.hostile.corpus import ACCEPTED
from tests.sandbox.sandbox_bot import png
from tests.wire.kit import staged

LONGEST = {
    "negative": "雾" * PROMPT_LIMIT,
    "seed": 2**53 - 1,
    "steps": 100,
    "guidance": 19.999,
    "count": 4,
    "strength": 0.0501,
    "private": False,
    "draft": True,
}


async def opened_form(user, **options):
    """Return a form that `/compose` opened, and its fields by custom id."""
    opened = await user.slash("general", "compose", **options)
    modal = (await opened.response()).modal
    assert modal is not None, (await opened.answer()).content
    fields = {item["component"]["custom_id"]: item["component"] for item in modal.components}
    return opened, modal, fields


def values(menu) -> list[str]:
    return [option["value"] for option in menu["options"]]


def preset(menu) -> list[str]:
    return [option["value"] for option in menu["options"] if option.get("default")]


async def request_of(stage, invocation):
    return (await stage.job_of(await stage.outcome(invocation))).request


async def test_the_menus_say_what_counts_and_what_is_chosen_in_them_is_drawn(stage):
    bob = stage.sandbox.user("bob")
    preferences = stage.app.client.services.preferences
    await preferences.set_user(bob.id, {"aspect": "3:4", "style": "ink"})
    opened, modal, fields = await opened_form(bob, quality="fast")
    assert list(fields) == ["prompt", "aspect", "quality", "style", "picture"]
    assert fields["aspect"]["placeholder"] == "As usual: 3:4 portrait"
    assert fields["style"]["placeholder"] == "As usual: ink"
    assert preset(fields["aspect"]) == []
    assert preset(fields["quality"]) == ["fast"]
    assert modal.title == "A new picture"
    untouched = await request_of(stage, await bob.submit_modal(opened, {"prompt": "a fish"}))
    assert (untouched.aspect, untouched.quality, untouched.style) == ("3:4", "fast", "ink")
    chosen = {"prompt": "two\nlines", "aspect": ["1:1"], "quality": ["standard"], "style": ["none"]}
    request = await request_of(stage, await bob.submit_modal(opened, chosen))
    assert (request.prompt, request.aspect) == ("two\nlines", "1:1")
    assert (request.quality, request.style) == ("standard", None)


async def test_a_file_is_what_the_picture_starts_from(stage):
    bob = stage.sandbox.user("bob")
    opened, _, _ = await opened_form(bob)
    sent = await bob.submit_modal(opened, {"prompt": "in oil", "picture": [("a.png", png())]})
    request = await request_of(stage, sent)
    assert request.input_image is not None
    assert request.strength == DEFAULT_STRENGTH
    opened, _, fields = await opened_form(bob, strength=0.3)
    assert fields["picture"]["required"] is True
    with pytest.raises(Refusal, match="is required"):  # as Discord's clients say
        await bob.submit_modal(opened, {"prompt": "in oil"})
    wrong = {"prompt": "in oil", "picture": [("a.txt", b"words")]}
    refused = await (await bob.submit_modal(opened, wrong)).answer()
    assert "a.txt" in refused.content
    assert refused.ephemeral


async def test_the_sandboxs_page_sends_a_form_with_its_file(stage):
    alice, world = stage.sandbox.user("alice"), stage.sandbox.world
    opened, _, _ = await opened_form(alice, aspect="1:1")
    components = {"prompt": "in oil", "picture": [0], "style": ["ink"]}
    body = aiohttp.FormData(quote_fields=False)
    body.add_field("payload_json", json.dumps({"components": components}))
    body.add_field("files[0]", png(), filename="my own.png", content_type="image/png")
    path = f"/user/{alice.id}/modals/{opened.interaction.id}"
    async with (
        aiohttp.ClientSession(stage.sandbox.url) as http,
        http.post(path, data=body) as reply,
    ):
        assert reply.status == 200
        key = int((await reply.json())["interaction_id"])
    request = await request_of(stage, Invocation(world, world.interactions[key]))
    assert request.input_image is not None
    assert (request.aspect, request.style) == ("1:1", "ink")


async def test_several_models_share_the_menu_of_the_quality(sandbox, tmp_path):
    bob, several = sandbox.user("bob"), {"image_models": ["tiny", "tiny-ink"]}
    async with staged(sandbox, tmp_path, **several) as stage:
        opened, _, fields = await opened_form(bob)
        menu = fields["quality"]
        assert {"tiny|", "tiny-ink|", "tiny-ink|fast"} <= set(values(menu))
        assert menu["placeholder"].startswith("As usual: tiny · ")
        picked = {"prompt": "x", "quality": ["tiny-ink|fast"]}
        job = await stage.job_of(await stage.outcome(await bob.submit_modal(opened, picked)))
        assert (job.model, job.request.quality) == ("tiny-ink", "fast")
        _, _, fields = await opened_form(bob, model="tiny-ink")
        assert preset(fields["quality"]) == ["tiny-ink|"]


async def test_the_longest_options_outlive_a_restart(sandbox, tmp_path):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path):
        opened, modal, _ = await opened_form(alice, **LONGEST)
        assert len(modal.custom_id) <= CUSTOM_ID_LENGTH
        assert f":{KEPT}" in modal.custom_id
        assert "雾" not in modal.custom_id
    async with staged(sandbox, tmp_path) as stage:
        written = {"prompt": "字" * PROMPT_LIMIT, "picture": [("a.png", png())]}
        request = await request_of(stage, await alice.submit_modal(opened, written))
        # A refused or mistaken one can be sent again.
        again = await request_of(stage, await alice.submit_modal(opened, written))
    assert request.prompt == "字" * PROMPT_LIMIT
    assert request.negative_prompt == again.negative_prompt == LONGEST["negative"]
    assert (request.seed, request.steps) == (LONGEST["seed"], LONGEST["steps"])
    assert (request.guidance, request.strength) == (19.999, 0.0501)
    assert (request.count, request.private) == (4, False)


@pytest.mark.slow
async def test_hostile_words_come_back_as_they_were(stage):
    alice = stage.sandbox.user("alice")
    for name, text in ACCEPTED.items():
        opened, _, _ = await opened_form(alice, negative=text, seed=0)
        request = await request_of(stage, await alice.submit_modal(opened, {"prompt": text}))
        assert request.negative_prompt == request.prompt, name
        assert request.seed == 0


async def test_a_kept_state_is_its_users_alone_and_goes_with_their_data(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    opened, modal, _ = await opened_form(alice, **LONGEST)
    key = modal.custom_id.partition(KEPT)[2]
    read = stage.database.read
    assert "雾" in await read(lambda tx: form_states.find(tx, key, alice.id))
    assert await read(lambda tx: form_states.find(tx, key, bob.id)) is None
    await stage.app.client.services.privacy.delete(alice.id)
    assert await read(lambda tx: tx.value("SELECT count(*) FROM form_states")) == 0
    filled = {"prompt": "x", "picture": [("a.png", png())]}
    gone = await (await alice.submit_modal(opened, filled)).answer()
    assert "can no longer be read" in gone.content
    assert gone.ephemeral
    assert await stage.jobs_made() == 0


async def test_the_newest_forms_of_a_user_are_kept(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    others, _, _ = await opened_form(bob, **LONGEST)
    first, _, _ = await opened_form(alice, **LONGEST)
    for _number in range(KEPT_A_USER):
        last, _, _ = await opened_form(alice, **LONGEST)
    filled = {"prompt": "x", "picture": [("a.png", png())]}
    gone = await (await alice.submit_modal(first, filled)).answer()
    assert "can no longer be read" in gone.content
    for user, opened in ((alice, last), (bob, others)):
        sent = await user.submit_modal(opened, filled)
        assert (await request_of(stage, sent)).steps == LONGEST["steps"]


async def test_an_expired_state_is_swept_by_a_time_that_has_held(stage):
    alice = stage.sandbox.user("alice")
    await opened_form(alice, **LONGEST)
    privacy, real = stage.app.client.services.privacy, stage.app.client.services.privacy._clock

    async def kept_after(hours: float) -> int:
        privacy._clock = lambda: real() + hours * 3600
        await privacy.sweep()
        return await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM form_states"))

    # A leap of the clock deletes nothing; after a day at the new time it is gone.
    assert await kept_after(0) == 1
    assert await kept_after(60) == 1
    assert await kept_after(85) == 0


async def test_what_cannot_be_drawn_is_told_before_the_form(stage):
    alice = stage.sandbox.user("alice")
    for options, words in (
        ({"style": "no such style"}, "no style of that name"),
        ({"lora_strength": 0.5}, "Choose a LoRA"),
    ):
        answer = await (await alice.slash("general", "compose", **options)).answer()
        assert answer.ephemeral
        assert words in answer.content


@pytest.mark.parametrize("name", ["alice", "chen"])
async def test_the_form_is_as_short_as_discord_wants_it(stage, name):
    """The sandbox refuses what is longer; a server's styles may have the longest names."""
    alice = stage.sandbox.user("alice")
    for number in range(30):
        added = {"name": f"{number:02}" + "风" * 38, "prompt": "x"}
        await (await alice.slash("general", "admin style add", **added)).answer()
    last = "29" + "风" * 38
    _, _, fields = await opened_form(stage.sandbox.user(name), style=last)
    assert len(values(fields["style"])) <= 25
    assert preset(fields["style"]) == [last]
