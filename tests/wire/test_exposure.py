"""Flagged pictures over the wire: every way that posts one asks the same question."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.engines import Script, ScriptedCheck, ScriptedEngine
from tests.wire.kit import controls, gallery_of, is_outcome, job_id_of, soon, staged, text_of

ADULT = "takes this for adult content"


@pytest.fixture
async def flagging(sandbox, tmp_path):
    """A bot whose check flags everything; #art and its threads are age-restricted."""
    sandbox.world.channel("art").nsfw = True
    async with staged(sandbox, tmp_path, check=ScriptedCheck()) as stage:
        yield stage


async def set_policy(stage, **options):
    alice = stage.sandbox.user("alice")
    return await (await alice.slash("general", "admin moderation policy", **options)).answer()


def is_open(message) -> bool:
    if message.embeds:  # A page of the history.
        return len(message.files) == 1 and not message.attachments and "image" in message.embeds[0]
    shown = gallery_of(message)
    return bool(shown) and not any(one["spoiler"] for one in shown)


def is_covered(message) -> bool:
    covered = all(file.filename.startswith("SPOILER_") for file in message.files)
    if message.attachments:  # A page of the history.
        return covered and message.attachments == message.files and not message.embeds
    shown = gallery_of(message)
    return bool(shown) and covered and all(one["spoiler"] for one in shown)


async def test_elsewhere_a_spoiler_with_a_sentence_and_all_in_age_restricted_channels(flagging):
    stage = flagging
    for place in ("general", "dm"):
        message = await stage.outcome(await stage.imagine("bob", "a fish", place))
        assert is_covered(message)
        assert "Behind a spoiler" in text_of(message)
        assert ADULT in text_of(message)
    for place in ("art", "sketches"):
        message = await stage.outcome(await stage.imagine("bob", "a fish", place))
        assert is_open(message)
        assert ADULT not in text_of(message)
    rows = await stage.database.read(lambda tx: tx.all("SELECT verdict, score FROM images"))
    assert [tuple(row) for row in rows] == [("flagged", 0.9)] * 4


async def test_an_app_that_only_its_user_brought_shows_a_spoiler(flagging):
    for place in ("friends", "lounge"):
        message = await flagging.outcome(await flagging.imagine("bob", "a fish", place))
        assert is_covered(message)


async def test_a_check_that_fails_costs_no_job_and_its_pictures_are_covered(sandbox, tmp_path):
    check = ScriptedCheck(error=RuntimeError("broken"))
    async with staged(sandbox, tmp_path, check=check) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
        assert is_covered(message)
        assert "check did not work" in text_of(message)
    assert check.closed


async def test_without_a_check_nothing_changes(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    assert is_open(message)
    told = await set_policy(stage, elsewhere="block")
    assert "image check is off" in told.content
    assert is_open(await stage.outcome(await stage.imagine("bob", "a fish")))


async def test_by_direct_message_and_the_channel_is_told_why(flagging):
    stage, bob = flagging, flagging.sandbox.user("bob")
    told = await set_policy(stage, elsewhere="dm", restricted="spoiler")
    assert "other channels: By direct message" in told.content
    assert "age-restricted channels: Behind a spoiler" in told.content
    invocation = await stage.imagine("bob", "a fish")
    job_id = job_id_of(await invocation.answer())
    delivery = await stage.delivered(job_id)
    assert (delivery.state, delivery.rung) == ("delivered", "dm")
    told = await invocation.until(lambda m: "Sent to you by direct message" in text_of(m))
    assert not told.files
    assert not controls(told)
    (sent,) = [m for m in bob.messages("dm") if is_outcome(m)]
    assert is_covered(sent)
    # What only its owner sees stays where it is.
    private = await stage.outcome(await stage.imagine("bob", "a fish", private=True))
    assert is_covered(private)
    assert is_covered(await stage.outcome(await stage.imagine("bob", "a fish", "art")))


async def test_by_direct_message_to_someone_who_takes_none(flagging):
    stage, bob = flagging, flagging.sandbox.user("bob")
    bob.user.accepts_dms = False
    await set_policy(stage, elsewhere="dm")
    invocation = await stage.imagine("bob", "a fish")
    job_id = job_id_of(await invocation.answer())
    assert (await stage.delivered(job_id)).state == "undeliverable"
    told = await invocation.until(lambda m: "only </show:" in text_of(m))
    assert not told.files
    shown = await bob.slash("general", "show", job=job_id)
    assert is_covered(await shown.until(is_outcome))


async def test_what_a_server_blocks_comes_through_no_other_door(flagging):
    stage, bob = flagging, flagging.sandbox.user("bob")
    before = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    assert is_covered(before)
    await set_policy(stage, elsewhere="block")
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    assert "Not shown" in text_of(message)
    assert ADULT in text_of(message)
    assert not message.files
    for place in ("general", "dm", "art"):
        shown = await (await bob.slash(place, "show", job=job_id_of(message))).until(is_outcome)
        assert "Not shown" in text_of(shown)
        assert not shown.files
    picked = await bob.press(before, f"pick:{job_id_of(before)}.1")
    assert "Not shown" in (await picked.answer()).content
    listed = await (await bob.slash("dm", "history")).until(lambda m: m.content)
    assert not listed.files
    assert "a fish" in listed.content
    again = await stage.outcome(await bob.press(message, "Try again"))
    assert not again.files


async def test_show_history_and_pictures_taken_out(sandbox, tmp_path):
    sandbox.world.channel("art").nsfw = True
    async with staged(sandbox, tmp_path, check=ScriptedCheck(1)) as stage:
        bob = sandbox.user("bob")
        batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
        assert is_covered(batch)
        job_id = job_id_of(batch)
        assert is_covered(await (await bob.slash("general", "show", job=job_id)).until(is_outcome))
        shown = await (await bob.slash("art", "show", job=job_id)).until(is_outcome)
        assert len(shown.files) == 2
        assert "SPOILER" not in str([file.filename for file in shown.files])

        listed = await (await bob.slash("general", "history")).until(lambda m: m.content)
        assert is_open(listed)  # The first picture stands for the batch, and is clear.
        first, second = [await bob.press(batch, f"pick:{job_id}.{n}") for n in "01"]
        assert is_open(await first.answer())
        covered = await second.answer()
        assert is_covered(covered)
        assert ADULT in text_of(covered)
        assert not covered.ephemeral
        await set_policy(stage, elsewhere="dm")
        for number, look in (("0", is_open), ("1", is_covered)):
            taken = await (await bob.press(batch, f"pick:{job_id}.{number}")).answer()
            assert look(taken)
            assert taken.ephemeral == (number == "1")


async def test_a_page_of_the_history_is_covered_for_one_of_its_pictures(flagging):
    stage, bob = flagging, flagging.sandbox.user("bob")
    await stage.outcome(await stage.imagine("bob", "a fish", "art"))
    assert is_open(await (await bob.slash("art", "history")).until(lambda m: m.content))
    assert is_covered(await (await bob.slash("dm", "history")).until(lambda m: m.content))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["general", "art"])
async def test_unfinished_pictures_are_shown_only_where_flagged_ones_would_be(
    sandbox, tmp_path, place
):
    sandbox.world.channel("art").nsfw = True
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    engine = ScriptedEngine(Script(hold_at=2, preview=buffer.getvalue()))
    async with staged(sandbox, tmp_path, engine, ScriptedCheck()) as stage:
        invocation = await stage.imagine("bob", "a fish", place)
        await soon(engine.holding.wait())
        shown = await invocation.until(lambda m: "Step 2" in text_of(m))
        assert bool(shown.files) == (place == "art")
        engine.release.set()
        await stage.outcome(invocation)


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "look"), [(0.0, is_covered), (0.8, is_open)])
async def test_the_real_check_from_end_to_end(sandbox, tmp_path, threshold, look):
    settings = {"image_check": True, "image_check_threshold": threshold}
    async with staged(sandbox, tmp_path, **settings) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
        assert look(message)
        scores = await stage.database.read(lambda tx: tx.all("SELECT score FROM images"))
        assert all(0 < row[0] < 0.8 for row in scores)
        check = stage.app.check
        assert check.pid
    assert check.pid is None
