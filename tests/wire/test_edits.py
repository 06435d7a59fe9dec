"""Edits by words over the wire: button, menu, command, reply, regions, and who may."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw

from bot.sandbox.scene import ADMIN_ROLE_ID, GUILD_ID
from tests.engine.test_inputs import BAD
from tests.wire.kit import is_outcome, job_id_of, staged, text_of

BOTH = {"image_models": "tiny-edit"}


def picture(
    size=(256, 256), marked: bool = False, quality: int | None = None, scale: float = 1.0
) -> bytes:
    """A picture of several colours; marked by a red ring around its upper left quarter."""
    image = Image.new("RGB", size, (40, 90, 160))
    ImageDraw.Draw(image).rectangle((0, size[1] * 2 // 3, size[0], size[1]), fill=(40, 120, 40))
    return with_ring(image, marked, quality, scale)


def with_ring(image: Image.Image, marked: bool, quality: int | None, scale: float) -> bytes:
    if marked:
        ImageDraw.Draw(image).ellipse((30, 30, 120, 120), outline=(255, 40, 40), width=6)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    buffer = io.BytesIO()
    image.save(buffer, *(("PNG",) if quality is None else ("JPEG",)), quality=quality or 80)
    return buffer.getvalue()


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **BOTH) as running:
        yield running


async def edited(stage, used):
    """The outcome of an edit, its job, and what the engine was asked for."""
    message = await stage.outcome(used)
    job = await stage.job_of(message)
    (asked,) = [one for one in stage.engine.requests if one.job_id == job.id]
    return message, job, asked


async def drawn(stage, name="alice", **options):
    return await stage.outcome(await stage.imagine(name, "a house", **options))


async def test_two_presses_and_words_edit_a_picture(stage):
    first = await drawn(stage)
    bob = stage.sandbox.user("bob")
    opened = await bob.press(first, "Edit")
    modal = (await opened.response()).modal
    assert modal.title == "Edit the picture"
    used = await bob.submit_modal(opened, {"instruction": "make it night"})
    _, job, asked = await edited(stage, used)
    assert (job.model, job.parent_id) == ("tiny-edit", job_id_of(first))
    assert (asked.prompt, asked.strength, asked.mask) == ("make it night", None, None)
    assert stage.engine.references[job.id] == [first.files[0].data]
    # Again, with the same references.
    again = await bob.press(stage.visible("bob")[-1], "Reroll")
    _, other, asked = await edited(stage, again)
    assert (other.model, other.request.seed != job.request.seed) == ("tiny-edit", True)
    assert stage.engine.references[other.id] == [first.files[0].data]


async def test_further_pictures_and_a_named_region(stage):
    first = await drawn(stage)
    bob, more = stage.sandbox.user("bob"), picture((64, 64))
    opened = await bob.press(first, "Edit")
    await opened.response()
    values = {"instruction": "put it there", "region": ["left"], "pictures": [("b.png", more)]}
    _, job, asked = await edited(stage, await bob.submit_modal(opened, values))
    assert stage.engine.references[job.id] == [first.files[0].data, more]
    assert stage.engine.inputs[job.id] == first.files[0].data
    mask = Image.open(io.BytesIO(stage.engine.masks[job.id]))
    assert mask.size == (asked.width, asked.height)
    assert (mask.getpixel((5, 5)), mask.getpixel((mask.width - 5, 5))) == (255, 0)


@pytest.mark.parametrize("region", ["left", "background"])
async def test_of_a_broken_picture_a_region_is_refused_in_the_engines_sentence(stage, region):
    bob = stage.sandbox.user("bob")
    for name in ("truncated", "truncated jpeg", "short of rows"):
        used = await bob.slash(
            "general", "edit", instruction="make it night", image=("a.png", BAD[name]),
            region=region,
        )  # fmt: skip
        assert "The picture to start from is broken." in text_of(await used.answer()), name
    assert await stage.jobs_made() == 0


async def test_the_command_takes_pictures_or_ones_last_of_the_channel(stage):
    alice = stage.sandbox.user("alice")
    nothing = await alice.slash("general", "edit", instruction="make it night")
    assert "no picture in this channel" in text_of(await nothing.answer())
    first = await drawn(stage)
    used = await alice.slash("general", "edit", instruction="make it night", seed=7, count=2)
    _, job, asked = await edited(stage, used)
    assert stage.engine.references[job.id] == [first.files[0].data]
    assert (asked.seeds, job.parent_id) == ((7, 8), job_id_of(first))
    wide = picture((400, 100))
    used = await alice.slash(
        "art", "edit", instruction="as one", image=("a.png", wide), image2=("b.png", picture())
    )
    _, job, asked = await edited(stage, used)
    assert stage.engine.references[job.id] == [wide, picture()]
    assert asked.width >= 2 * asked.height
    assert not asked.width % 16
    assert not asked.height % 16


async def test_the_menu_takes_anybodys_picture(stage):
    bob, data = stage.sandbox.user("bob"), picture()
    posted = await stage.sandbox.user("alice").send("general", "look", [("a.png", data)])
    opened = await bob.context_menu("general", "Edit this picture", posted)
    assert (await opened.response()).modal.title == "Edit the picture"
    _, job, _asked = await edited(stage, await bob.submit_modal(opened, {"instruction": "snow"}))
    assert (stage.engine.references[job.id], job.parent_id) == ([data], None)
    opened = await bob.context_menu("general", "Edit this picture", await drawn(stage))
    await opened.response()
    _, job, _asked = await edited(stage, await bob.submit_modal(opened, {"instruction": "snow"}))
    assert job.parent_id


async def test_a_reply_that_mentions_the_bot_is_an_edit_of_what_is_marked(stage):
    """Marked on a phone: the copy comes back as JPEG 80, half as large."""
    bob = stage.sandbox.user("bob")
    first = await drawn(stage, aspect="1:1", seed=3)
    bot_id = stage.app.client.user.id
    with Image.open(io.BytesIO(first.files[0].data)) as original:
        copy = with_ring(original.convert("RGB"), marked=True, quality=80, scale=0.5)
    await bob.send("general", "what a nice house", reply_to=first)
    await bob.send("general", f"<@{bot_id}> a blue door", [("marked.jpg", copy)], reply_to=first)
    await stage.sandbox.wait(lambda: len(stage.visible("bob")) == 2)
    message = stage.visible("bob")[1]
    job = await stage.job_of(message)
    assert (job.request.prompt, job.user_id, job.guild_id) == (
        "a blue door", bob.id, message.channel.guild.id,
    )  # fmt: skip
    assert stage.engine.references[job.id] == [first.files[0].data]
    mask = Image.open(io.BytesIO(stage.engine.masks[job.id]))
    assert (mask.getpixel((75, 75)), mask.getpixel((200, 200))) == (255, 0)
    assert await stage.jobs_made() == 2
    assert (await stage.delivered(job.id)).state == "delivered"


async def test_the_waiting_message_shows_the_region(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        await stage.app.client.services.queue.control.pause(
            "a test", by=stage.sandbox.user("alice").id
        )
        used = await sandbox.user("bob").slash(
            "general", "edit", instruction="red", image=("a.png", picture()), region="top"
        )
        waiting = await used.answer()
        assert "bright part" in text_of(waiting)
        with Image.open(io.BytesIO(waiting.files[0].data)) as shown:
            grey = shown.convert("L")
            assert grey.getpixel((128, 60)) > 2 * grey.getpixel((128, 150))


async def test_a_picture_that_is_no_marked_copy_is_a_second_one(stage):
    bob, other = stage.sandbox.user("bob"), picture((300, 120))
    await bob.send("dm", "a fish")
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    (first,) = stage.visible("bob", "dm")
    await bob.send("dm", "with this background", [("b.png", other)], reply_to=first)
    await stage.sandbox.wait(lambda: len(stage.visible("bob", "dm")) == 2)
    job = await stage.job_of(stage.visible("bob", "dm")[1])
    assert stage.engine.references[job.id] == [first.files[0].data, other]
    assert (job.request.mask, job.parent_id) == (None, job_id_of(first))


async def test_replies_that_ask_for_nothing_are_answered(stage):
    bob, bot_id = stage.sandbox.user("bob"), stage.app.client.user.id
    first = await drawn(stage)
    talk = await stage.sandbox.user("alice").send("general", "hello")
    await bob.send("general", f"<@{bot_id}>", reply_to=first)
    await bob.send("general", f"<@{bot_id}> make it night", reply_to=talk)

    def said():
        return {m.content for m in bob.messages("general") if m.author.bot and m.content}

    await stage.sandbox.wait(lambda: len(said()) == 2)
    assert any("Say in the reply" in text for text in said())
    assert any("I see no picture there" in text for text in said())
    assert await stage.jobs_made() == 1


async def test_without_a_model_that_edits_the_owner_is_named_what_to_set(sandbox, tmp_path):
    async with staged(sandbox, tmp_path) as stage:
        first = await drawn(stage)
        refused = await sandbox.user("bob").press(first, "Edit")
        assert "IMAGE_MODELS" in text_of(await refused.answer())
        used = await sandbox.user("alice").slash("general", "edit", instruction="night")
        assert "IMAGE_MODELS" in text_of(await used.answer())
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        used = await sandbox.user("alice").slash(
            "general", "edit", instruction="night", model="tiny"
        )
        assert "tiny-edit can" in text_of(await used.answer())


async def test_a_private_picture_is_nobody_elses_reference(stage):
    hidden = await stage.outcome(await stage.imagine("alice", "a secret", private=True))
    job_id = job_id_of(hidden)
    bob = stage.sandbox.user("bob")
    shown = await drawn(stage)
    shown.controls[0]["custom_id"] = f"instruct:{job_id}"
    refused = await bob.press(shown, f"instruct:{job_id}")
    assert "private" in text_of(await refused.answer())
    opened = await stage.sandbox.user("alice").press(hidden, "Edit")
    await opened.response()
    sent = await stage.sandbox.user("alice").submit_modal(opened, {"instruction": "night"})
    message = await sent.until(is_outcome)
    assert (await stage.job_of(message)).request.private


async def test_remix_keeps_the_seed_and_the_settings(stage):
    first = await drawn(stage, seed=77, steps=4)
    bob = stage.sandbox.user("bob")
    opened = await bob.press(first, "Remix")
    await opened.response()
    _, job, asked = await edited(stage, await bob.submit_modal(opened, {"prompt": "a barn"}))
    assert (asked.seeds, asked.steps, asked.prompt) == ((77,), 4, "a barn")
    assert asked.input_image is None
    for typed, right in (("", True), ("5", True), ("five", False)):
        used = await bob.submit_modal(opened, {"prompt": "a barn", "seed": typed})
        if right:
            _, job, _asked = await edited(stage, used)
            assert job.request.seed == 5 if typed else job.request.seed != 77
        else:
            assert "whole number" in text_of(await used.answer())


@pytest.mark.parametrize(("most", "who"), [("own", "alice"), ("bots", "bob"), ("any", "bob")])
async def test_a_servers_rule_says_whose_pictures_may_be_edited(stage, most, who):
    first = await drawn(stage)
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    told = await alice.slash("general", "admin edit allow", role=GUILD_ID, pictures=most)
    assert text_of(await told.answer()).startswith("@everyone: ")
    pressed = await stage.sandbox.user(who).press(first, "Edit")
    assert (await pressed.response()).modal is not None
    if most == "own":
        refused = await bob.press(first, "Edit")
        assert "only your own pictures" in text_of(await refused.answer())
    data = picture()
    posted = await stage.sandbox.user("alice").send("general", "look", [("a.png", data)])
    opened = await bob.context_menu("general", "Edit this picture", posted)
    if most == "any":
        assert (await opened.response()).modal is not None
    else:
        assert "you may edit only" in text_of(await opened.answer())


async def test_other_words_for_anothers_edit_are_an_edit_of_that_ones_picture(stage):
    first = await drawn(stage)
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    opened = await alice.press(first, "Edit")
    await opened.response()
    used = await alice.submit_modal(opened, {"instruction": "make it night"})
    edit, _, _ = await edited(stage, used)
    before = await bob.press(edit, "Remix")
    await before.response()
    allow = await alice.slash("general", "admin edit allow", role=GUILD_ID, pictures="own")
    await allow.answer()
    late = await bob.submit_modal(before, {"prompt": "make it day"})
    assert "only your own pictures" in text_of(await late.answer())
    assert "only your own pictures" in text_of(await (await bob.press(edit, "Remix")).answer())
    # Words of one's own for what is drawn from words alone, and its author's.
    assert (await (await bob.press(first, "Remix")).response()).modal is not None
    assert (await (await alice.press(edit, "Remix")).response()).modal is not None


async def test_a_rewritten_instruction_is_its_authors_where_edits_are(sandbox, tmp_path):
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path, image_model_name="Qwen/Qwen-Image-Edit-2511") as stage:
        allow = await alice.slash("general", "admin edit allow", role=GUILD_ID, pictures="own")
        await allow.answer()
        options = {"instruction": "make it night", "image": ("a.png", picture((64, 64)))}
        used = await alice.slash("general", "edit", enhance="ask", **options)
        shown = await used.until(lambda message: "Draw mine" in str(message.controls), timeout=30)
        for label in ("Draw this", "Change", "Draw mine"):
            refused = await (await bob.press(shown, label)).answer()
            assert "only your own pictures" in text_of(refused), label
        await stage.outcome(await alice.press(shown, "Draw this"))


async def test_a_default_of_rewriting_keeps_no_edit_from_a_model_that_rewrites_none(stage):
    """The toy was taught to rewrite descriptions, and no instructions."""
    bob, one = stage.sandbox.user("bob"), ("a.png", picture((64, 64)))
    await stage.app.client.services.preferences.set_user(bob.id, {"enhance": "ask"})
    options = {"instruction": "make it night", "image": one}
    await edited(stage, await bob.slash("general", "edit", **options))
    asked = await bob.slash("general", "edit", enhance="ask", **options)
    assert "writes texts" in text_of(await asked.answer())


async def test_roles_may_edit_more_or_as_all_again(stage):
    first = await drawn(stage)
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")

    async def admin(command: str, **options: object) -> str:
        return text_of(
            await (await alice.slash("general", f"admin edit {command}", **options)).answer()
        )

    assert await admin("list") == "@everyone: any picture that they can see"
    await admin("allow", role=GUILD_ID, pictures="own")
    told = await admin("allow", role=ADMIN_ROLE_ID, pictures="bots")
    assert f"<@&{ADMIN_ROLE_ID}>: the bot's pictures and own ones\nIf someone has several" in told
    assert "only your own" in text_of(await (await bob.press(first, "Edit")).answer())
    stage.sandbox.world.guild.members[bob.id].roles.append(ADMIN_ROLE_ID)
    assert (await (await bob.press(first, "Edit")).response()).modal is not None
    await admin("remove", role=ADMIN_ROLE_ID)
    assert "only your own" in text_of(await (await bob.press(first, "Edit")).answer())
    assert await admin("remove", role=GUILD_ID) == "@everyone: any picture that they can see"
    assert "Nothing is set" in await admin("remove", role=GUILD_ID)
    refused = await bob.slash("general", "admin edit list", force=True)
    assert text_of(await refused.answer())
    services = stage.app.client.services
    found = await services.database.read(lambda tx: tx.all("SELECT detail FROM audit", ()))
    assert f"role {ADMIN_ROLE_ID} edits: bots" in [row["detail"] for row in found]
