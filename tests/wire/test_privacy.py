"""/privacy: one's own data handed out and deleted; the ledger and other people's data stay."""

from __future__ import annotations

import io
import json
import zipfile

from bot.archive.privacy import Privacy
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import job_id_of, soon, staged, text_of

DAY = 24 * 3600


async def test_an_export_holds_rows_and_pictures_and_no_token(stage):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("bob", "my secret fish", count=2))
    await stage.outcome(await stage.imagine("alice", "not bob's"))
    await (await bob.slash("general", "settings")).answer()
    exported = await bob.slash("general", "privacy export")
    told = await exported.until(lambda m: "Sent" in m.content)
    assert told.ephemeral
    (sent,) = [m for m in bob.messages("dm") if m.files]
    with zipfile.ZipFile(io.BytesIO(sent.files[0].data)) as archive:
        names = archive.namelist()
        data = archive.read("data.json").decode()
        picture = archive.read(f"pictures/{job_id_of(first)}_0.png")
    rows = json.loads(data)
    assert [job["id"] for job in rows["jobs"]] == [job_id_of(first)]
    assert "my secret fish" in data
    assert "not bob's" not in data
    assert len([name for name in names if name.startswith("pictures/")]) == 2
    assert picture.startswith(b"\x89PNG")
    for interaction in stage.sandbox.world.interactions.values():
        assert interaction.token not in data


async def test_with_closed_direct_messages_it_comes_in_the_answer(stage):
    bob = stage.sandbox.user("bob")
    bob.user.accepts_dms = False
    await stage.outcome(await stage.imagine("bob", "a fish"))
    exported = await bob.slash("general", "privacy export")
    answer = await exported.until(lambda m: bool(m.files))
    assert answer.ephemeral
    with zipfile.ZipFile(io.BytesIO(answer.files[0].data)) as archive:
        assert "data.json" in archive.namelist()


async def test_deleting_takes_rows_files_and_messages_but_not_the_ledger(stage):
    bob = stage.sandbox.user("bob")
    mine = await stage.outcome(await stage.imagine("bob", "a fish"))
    others = await stage.outcome(await stage.imagine("alice", "a boat"))
    await stage.delivered(job_id_of(mine))
    root = stage.app.settings.images_dir
    asked = await (await bob.slash("general", "privacy delete")).answer()
    assert asked.ephemeral
    assert not mine.deleted
    pressed = await bob.press(asked, "Delete everything")
    told = await pressed.until(lambda m: "Deleted" in m.content)
    assert "1 job with" in told.content
    assert mine.deleted
    assert not others.deleted
    left = await stage.database.read(lambda tx: tx.all("SELECT user_id FROM jobs"))
    assert [row[0] for row in left] == [stage.sandbox.user("alice").id]
    assert len(list(root.glob("2*/*/*/*.png"))) == 1
    for table in ("users WHERE id", "jobs WHERE user_id"):
        sql = f"SELECT count(*) FROM {table} = {bob.id}"
        assert await stage.database.read(lambda tx, sql=sql: tx.value(sql)) == 0
    used = await stage.database.read(
        lambda tx: tx.value(f"SELECT sum(images) FROM usage WHERE user_id = {bob.id}")
    )
    assert used == 1
    press = await stage.sandbox.user("alice").slash("general", "show", job=job_id_of(mine))
    assert "no job of yours" in text_of(await press.answer())


async def test_open_jobs_stay_and_are_spoken_of(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        bob = sandbox.user("bob")
        invocation = await stage.imagine("bob", "a fish")
        await soon(engine.holding.wait())
        asked = await (await bob.slash("general", "privacy delete")).answer()
        pressed = await bob.press(asked, "Delete everything")
        told = await pressed.until(lambda m: "Deleted" in m.content)
        assert "1 job is not done yet" in told.content
        engine.release.set()
        assert (await stage.outcome(invocation)).files


async def test_old_jobs_are_swept_and_the_ledger_is_pruned(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    await stage.delivered(job_id_of(message))
    services = stage.app.client.services
    store = services.cards._store
    for days, keep_days, jobs, charged in ((1, 7, 1, 1), (6, 7, 1, 1), (9, 0, 1, 0), (9, 7, 0, 0)):
        clock = await stage.database.read(lambda tx: tx.value("SELECT min(finished_at) FROM jobs"))
        privacy = Privacy(
            stage.database,
            store,
            services.preferences,
            keep_days=keep_days,
            clock=lambda now=clock, days=days: now + days * DAY,
        )
        await privacy.sweep()
        privacy._clock = lambda now=clock, days=days: now + (days + 1) * DAY
        await privacy.sweep()  # A day later, what was old then is swept.
        assert await stage.jobs_made() == jobs
        rows = await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM usage"))
        assert rows == charged
    assert not list(stage.app.settings.images_dir.glob("2*/*/*/*.png"))
