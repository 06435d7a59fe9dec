"""The controls under old messages, and forms that were open, do what they say."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest
from PIL import Image

from bot.sandbox.people import NoResponse
from tests.upgrade.scene import digests, filled_in, find, ids, old_controls, said
from tests.wire.kit import PATIENCE_S, is_outcome

pytestmark = pytest.mark.slow

KINDS = {
    *("cancel", "reroll", "vary", "edit", "upscale", "details", "delete", "pick"),
    *("refresh", "open", "page", "everyone", "endjob", "audit", "prefs", "pref"),
    *("rdelete", "rblock", "wipe"),
}


async def new_job(drill, used):
    """Wait for the picture of what was asked for; return the job and what the engine was told."""
    message = await used.until(lambda found: found.controls or not found.thinking)
    assert message.controls, said(message)
    message = await used.until(is_outcome, PATIENCE_S)
    job = await drill.stage.job_of(message)
    (request,) = [one for one in drill.engine.requests if one.job_id == job.id]
    return job, request


def parameters(message) -> str:
    """How a picture was made, by what the old bot wrote into its file."""
    with Image.open(io.BytesIO(message.files[0].data)) as picture:
        return picture.text["parameters"]


def start_of(drill, request) -> str:
    return hashlib.sha256(drill.engine.inputs[request.job_id]).hexdigest()


async def test_every_kind_of_control_of_then_is_answered(drill):
    """One of each kind, pressed by whoever saw it; what is unknown gets no answer at all."""
    kinds = {}
    for row, control in old_controls(drill.old):
        kinds.setdefault(control["custom_id"].partition(":")[0], (row, control))
    assert set(kinds) == KINDS
    world = drill.sandbox.world

    async def use(row: dict[str, Any], control: dict[str, Any]) -> str | None:
        message = find(world, row["id"])
        # As it stood, whatever was pressed since.
        message.components = row["components"]
        control["disabled"] = False
        person = drill.sandbox.user(message.visible_to.name if message.visible_to else "alice")
        if control["type"] == 2:
            used = await person.press(message, control["custom_id"])
        else:
            values = [option["value"] for option in control["options"]]
            used = await person.select(message, control["custom_id"], values[0])
        try:
            await used.response()
        except NoResponse:
            return control["custom_id"]
        return None

    # Those that delete come last, so that the others find what they are about.
    last = {"delete", "rdelete", "rblock", "wipe"}
    silent = [await use(*kinds[kind]) for kind in sorted(kinds, key=lambda kind: kind in last)]
    assert [one for one in silent if one] == []


async def test_reroll_draws_the_same_with_another_seed(drill):
    job, request = await new_job(drill, await drill.press("bob", "tiny", "reroll"))
    assert parameters(drill.message("tiny")).startswith(f"{request.prompt}\n")
    assert request.seeds != (7,)
    assert (request.width, request.height, request.steps) == (256, 256, 4)
    assert job.request.style == "watercolour"


async def test_a_lora_is_carried_on(drill):
    job, request = await new_job(drill, await drill.press("bob", "lora", "reroll"))
    assert request.loras == (("ink_v2", 0.5),)
    assert parameters(drill.message("lora")).startswith(f"{request.prompt} <lora:ink_v2:0.5>\n")
    assert request.steps == 6
    assert job.request.style == "House Look"


async def test_vary_and_upscale_start_from_the_old_picture(drill):
    for action, name, sides in (("vary", "lora", (384, 256)), ("upscale", "chens", (512, 336))):
        job, request = await new_job(drill, await drill.press("alice", name, action))
        assert [start_of(drill, request)] == drill.old.pictures(name)
        assert (request.width, request.height) == sides
        assert job.parent_id == drill.old.jobs[name]


async def test_one_picture_of_a_batch_is_picked_and_varied(drill):
    chen, batch = drill.sandbox.user("chen"), drill.message("batch")
    wanted = drill.old.pictures("batch")
    picked = await chen.select(batch, f"pick:{drill.old.jobs['batch']}", "2")
    shown = await picked.until(lambda message: message.files)
    assert digests(shown) == [wanted[2]]
    # This one was picked in the old days.
    _, request = await new_job(drill, await drill.press("chen", "picked", "vary"))
    assert start_of(drill, request) == wanted[1]


async def test_details_tell_what_was_asked_for(drill):
    text = said(await (await drill.press("alice", "lora", "details")).answer())
    for part in ("a heron", "teal and gold", "fog", "ink_v2", "Steps: 6"):
        assert part in text


async def test_edit_opens_with_the_old_words_and_keeps_the_start(drill):
    opened = await drill.press("bob", "start", "edit")
    values = filled_in((await opened.response()).modal)
    assert values["prompt"] == "in oil"
    bob = drill.sandbox.user("bob")
    _, request = await new_job(drill, await bob.submit_modal(opened, {"prompt": "in ink"}))
    kept = drill.old.images / "inputs" / f"{drill.old.jobs['start']}.input"
    assert request.prompt.startswith("in ink")
    assert drill.engine.inputs[request.job_id] == kept.read_bytes()
    assert request.strength == 0.5


async def test_delete_takes_message_and_files(drill):
    gone = drill.message("to delete")
    (file,) = drill.old.rows(
        "SELECT file FROM images WHERE job_id = ?", drill.old.jobs["to delete"]
    )[0]
    refused = await drill.press("bob", "to delete", "delete")
    assert "Only the person who asked" in said(await refused.answer())
    await drill.press("chen", "to delete", "delete")
    await drill.sandbox.wait(lambda: gone.deleted)
    assert not (drill.old.images / file).exists()
    assert "deleted" in await drill.say("chen", "show", job=drill.old.jobs["to delete"])


async def test_moderators_act_on_an_old_report(drill):
    picture, report = drill.message("to report"), drill.message("report")
    assert "it bites" in said(report)
    refused = await drill.press("bob", "report", "rdelete")
    assert "Manage Messages" in said(await refused.answer())
    await (await drill.press("alice", "report", "rdelete")).response()
    await drill.sandbox.wait(lambda: picture.deleted)
    again = await drill.sandbox.user("alice").context_menu(
        "general", "Report", drill.message("chens")
    )
    assert (await again.response()).modal is not None


async def test_open_forms_can_be_sent(drill):
    alice, bob, chen = (drill.sandbox.user(name) for name in ("alice", "bob", "chen"))
    sent = await bob.submit_modal(drill.form("new"), {"prompt": "a long road"})
    job, request = await new_job(drill, sent)
    assert (request.seeds, request.width, request.height) == ((77,), 256, 384)
    assert job.request.style == "anime"

    opened = drill.form("edit")
    assert filled_in(opened.interaction.modal)["prompt"] == "a heron"
    _, request = await new_job(drill, await alice.submit_modal(opened, {"prompt": "a stork"}))
    assert request.prompt.startswith("a stork, ink drawing, teal and gold")
    assert request.loras == (("ink_v2", 0.5),)

    sent = await bob.submit_modal(drill.form("use"), {"prompt": "in chalk"})
    _, request = await new_job(drill, sent)
    assert [start_of(drill, request)] == drill.old.pictures("start")

    sent = await bob.submit_modal(drill.form("negative"), {"negative": "no fog"})
    assert "Saved" in said(await sent.answer())
    assert "no fog" in await drill.say("bob", "settings")

    sent = await chen.submit_modal(drill.form("report"), {"reason": "too loud"})
    assert "Reported to the moderators" in said(await sent.answer())
    filed = [said(m) for m in alice.messages("art") if "rdelete" in str(ids(m))]
    assert any("too loud" in text for text in filed)


async def test_a_users_data_of_then_is_deleted_at_their_wish(drill):
    gone = drill.message("mallorys")
    told = await drill.press("mallory", "wipe", "wipe")
    assert "1 job" in said(await told.until(lambda message: "Deleted" in message.content))
    assert gone.deleted
    assert not drill.old.rows("SELECT 1 FROM jobs WHERE id = ?", drill.old.jobs["mallorys"])


async def test_pages_of_the_audit_and_the_queue_of_then_turn(drill):
    alice = drill.sandbox.user("alice")
    turned = await drill.press("alice", "audit", "audit:older")
    await turned.until(lambda message: "style House Look" in message.content)
    await (await drill.press("alice", "admin queue", "everyone:stay")).response()
    panel = drill.message("server panel")
    await (await alice.select(panel, "prefs:guild:aspect", "1:1")).response()
    assert "Shape: Square" in said(panel) or "1:1" in said(panel)
