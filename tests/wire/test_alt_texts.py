"""Alternative texts on their way to a message: what ends it, and what is left of them then."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager

from bot.delivery import courier
from bot.delivery.ladder import Sent
from storage import deliveries, gallery, people
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, job_id_of, soon, staged, text_of
from tests.wire.test_edits import BOTH
from tests.wire.test_notice import late


@asynccontextmanager
async def writing(sandbox, data, **settings):
    """A bot that has sent a picture of bob's, and whose engine writes about it and is held."""
    engine = ScriptedEngine()
    engine.writing.append(Script(hold_at=0))
    async with staged(sandbox, data, engine, alt_text="written", **BOTH, **settings) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a house"))
        await soon(engine.holding.wait())
        yield stage, message, await alt_of(stage, message)


async def alt_of(stage, message) -> str:
    source = f"a{job_id_of(message)}"
    return await stage.database.read(
        lambda tx: tx.value("SELECT id FROM jobs WHERE source_id = ?", (source,))
    )


def described(stage) -> list[str | None]:
    return [file.description for message in stage.visible() for file in message.files]


def inputs(stage) -> set[str]:
    return stage.app.client.services.gallery.inputs.job_ids()


async def test_the_mention_of_an_answer_that_took_long_stays(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine, alt_text="written", **BOTH) as stage:
        _, delivery = await late(stage)
        assert delivery.rung == "reply"
        await sandbox.wait(lambda: "A grey square." in described(stage))
        (answer,) = stage.visible()
        assert [user.name for user in answer.mentions] == ["alice"]
        assert text_of(answer).startswith(f"<@{sandbox.user('alice').id}>")


async def test_the_model_that_drew_writes_and_of_several_pictures_what_they_share(
    sandbox, tmp_path
):
    first, second = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"
    models = {"image_model_name": first, "image_models": second, "alt_text": "written"}
    engine = ScriptedEngine()
    async with staged(sandbox, tmp_path, engine, **models) as stage:
        for model, count in ((second, 1), (first, 2)):
            used = await stage.imagine("bob", "a house", model=model, count=count)
            message = await stage.outcome(used)
            # A batch's sentence has a number before it.
            said = "A grey square." if count == 1 else f"1 of {count}: A grey square."
            await sandbox.wait(lambda said=said: said in described(stage))
            assert (await stage.queue.job(await alt_of(stage, message))).model == model
    one, both = (asked.system for asked in engine.asked)
    assert "the picture that you see" in one
    assert "what the pictures that you see have in common" in both


async def test_where_the_bot_cannot_edit_nothing_is_written(sandbox, tmp_path):
    """Of an app that its user alone installed, the message is edited by its token alone."""
    async with staged(sandbox, tmp_path, alt_text="written", **BOTH) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a house", "friends"))
        await stage.delivered(job_id_of(message))
        # What comes after it has been delivered: the text would have been asked for by now.
        later = await stage.outcome(await stage.imagine("alice", "a boat"))
        await sandbox.wait(lambda: "A grey square." in described(stage))
        assert await alt_of(stage, message) is None
        assert await alt_of(stage, later) is not None


async def test_a_deleted_pictures_text_is_stopped_and_nothing_stays(sandbox, tmp_path):
    async with writing(sandbox, tmp_path) as (stage, message, alt):
        assert inputs(stage) == {alt}
        await (await sandbox.user("bob").press(message, "Delete")).response()
        assert (await stage.delivered(alt)).state == "delivered"
        assert (await stage.queue.job(alt)).state == "cancelled"
        assert inputs(stage) == set()
        texts = await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM texts"))
        assert texts == 0


async def test_the_job_of_a_user_who_deletes_all_goes_when_it_has_stopped(sandbox, tmp_path):
    async with writing(sandbox, tmp_path) as (stage, _, alt):
        stage.queue.on_cancel.clear()  # The engine is done before it hears of that.
        deleted = await stage.app.client.services.privacy.delete(sandbox.user("bob").id)
        assert (deleted.jobs, deleted.still_open) == (1, 0)
        attempted = stage.app.client.services.courier._attempted

        async def gone() -> None:
            async with attempted:
                while await stage.queue.job(alt) is not None:
                    await attempted.wait()

        stage.engine.release.set()
        await soon(gone())
        assert await stage.jobs_made() == 0
        assert inputs(stage) == set()


async def test_copies_are_gone_before_anything_is_recorded(sandbox, tmp_path, monkeypatch):
    """A process that dies after the record would leave them, with a job that they belong to."""
    record, seen = deliveries.delivered, {}

    async def recorded(tx, job_id, *args, **options):
        seen[job_id] = store.job_ids()
        return await record(tx, job_id, *args, **options)

    async with writing(sandbox, tmp_path) as (stage, _, alt):
        store = stage.app.client.services.gallery.inputs
        monkeypatch.setattr(deliveries, "delivered", recorded)
        stage.engine.release.set()
        await stage.delivered(alt)
        assert seen == {alt: set()}


async def test_an_edit_that_is_never_taken_is_given_up(sandbox, tmp_path, hurry, monkeypatch):
    for name in ("_FIRST_RETRY_S", "_LONGEST_RETRY_S"):  # the next try is the test's to begin
        monkeypatch.setattr(courier, name, 600)
    async with writing(sandbox, tmp_path) as (stage, _, alt):
        await stage.database.write(
            lambda tx: tx.execute("UPDATE deliveries SET attempts = 199 WHERE job_id = ?", (alt,))
        )
        edits = sandbox.faults.respond("PATCH", "/channels/*/messages/*", 500, times=None)
        stage.engine.release.set()
        assert (await stage.postponed(alt)).attempts == 200
        hits = edits.hits
        stage.advance(3600)
        delivery = await stage.delivered(alt)
        assert delivery.state == "undeliverable"
        assert "given up: after 200 attempts" in delivery.error
        assert edits.hits == hits > 0
        assert await stage.app.client.services.courier.kept_for(sandbox.user("bob").id) == []


async def test_a_picture_that_is_deleted_while_its_text_is_asked_for_has_none(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a house"))
        job, services = await stage.job_of(message), stage.app.client.services
        delivery = await stage.delivered(job.id)
        images = await stage.queue.images(job.id)
        await stage.queue.control.pause("so that it waits", by=1)
        # As one that was deleted between its delivery and the request for its text.
        await stage.database.write(lambda tx: gallery.mark_deleted(tx, job.id, 1.0))
        alt_texts = services.courier._alt_texts
        alt_texts._models = stage.app.settings.models
        sent = Sent(delivery.sent_channel_id, delivery.sent_message_id)
        await alt_texts.ask(job, images, sent, editable=True)
        assert (await stage.queue.job(await alt_of(stage, message))).state == "cancelled"
        assert inputs(stage) == set()


async def test_a_database_that_refuses_costs_the_text_alone(sandbox, tmp_path, monkeypatch):
    """The answer is recorded, and whoever waited long for it is told."""

    async def refuse(*_args, **_options):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(people, "name_of", refuse)
    async with staged(sandbox, tmp_path, alt_text="written", **BOTH) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a house"))
        job, courier = await stage.job_of(message), stage.app.client.services.courier
        delivery = await stage.delivered(job.id)
        images = await stage.queue.images(job.id)
        sent = Sent(delivery.sent_channel_id, delivery.sent_message_id)
        await courier._alt_texts.ask(job, images, sent, editable=True)
        assert await alt_of(stage, message) is None


async def test_a_text_is_not_among_what_one_asked_for_and_shown_as_what_it_is(sandbox, tmp_path):
    async with writing(sandbox, tmp_path) as (stage, message, alt):
        stage.engine.release.set()
        await stage.delivered(alt)
        bob = sandbox.user("bob")
        found = await bob.autocomplete("general", "show", "job", job="")
        assert [choice["value"] for choice in found] == [job_id_of(message)]
        shown = await (await bob.slash("general", "show", job=alt)).until(
            lambda message: "Alternative text" in text_of(message)
        )
        assert "A grey square." in text_of(shown)
        assert controls(shown) == []
