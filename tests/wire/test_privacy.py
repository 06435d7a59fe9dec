"""/privacy: one's own data handed out and deleted; the ledger and other people's data stay."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import secrets
import sys
import tracemalloc
import zipfile

import pytest

from bot.archive.privacy import Privacy
from bot.messages.discord_limits import FILE_BYTES
from storage import exports
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
            stage.queue,
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


def unpacked(messages) -> tuple[set[str], dict[str, bytes]]:
    """The jobs whose rows, and the files, that the ZIP files of these messages hold together."""
    jobs: set[str] = set()
    files: dict[str, bytes] = {}
    for data in (file.data for message in messages for file in message.files):
        assert len(data) <= FILE_BYTES
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if name.startswith("data"):
                    jobs |= {job["id"] for job in json.loads(archive.read(name))["jobs"]}
                else:
                    files[name] = archive.read(name)
    return jobs, files


@pytest.fixture
def small(monkeypatch):
    """Let files of an export be so small that each holds one or two pictures, and jobs come singly."""
    cog = sys.modules["cogs.privacy"]
    monkeypatch.setattr(exports, "JOBS_AT_ONCE", 2)
    monkeypatch.setattr(cog, "_PART_BYTES", 6500)
    monkeypatch.setattr(cog, "_MOST_PARTS", 2)


async def drawn(stage, name: str, jobs: int, **options) -> list[str]:
    invocations = [await stage.imagine(name, f"fish {n}", **options) for n in range(jobs)]
    return [job_id_of(await stage.outcome(invocation)) for invocation in invocations]


async def export(stage, name: str, **options):
    exported = await stage.sandbox.user(name).slash("general", "privacy export", **options)
    return await exported.until(lambda m: "file" in m.content)


def named_place(told) -> str | None:
    found = re.search(r"after:([0-9a-z.]+)`", told.content)
    return found[1] if found else None


@pytest.mark.parametrize("closed", [False, True], ids=["by direct message", "in the answer"])
async def test_what_one_export_has_no_room_for_the_next_ones_bring(
    sandbox, tmp_path, closed, request
):
    async with staged(sandbox, tmp_path, limit_open_jobs=9, limit_cooldown_seconds=0) as stage:
        request.getfixturevalue("small")
        bob = sandbox.user("bob")
        bob.user.accepts_dms = not closed
        ids = await drawn(stage, "bob", 4, count=2)
        told = await export(stage, "bob")
        answers, left = [told], [told.content]
        while (place := named_place(told)) is not None:
            told = await export(stage, "bob", after=place)
            answers.append(told)
            left.append(told.content)
            assert len(answers) < 20
        assert len(answers) > 2
        assert "of your jobs" in left[0]
        assert "of your jobs" not in left[-1]
        jobs, files = unpacked(answers if closed else [m for m in bob.messages("dm") if m.files])
        assert jobs == set(ids)
        for job_id in ids:
            for image in await stage.queue.images(job_id):
                kept = (stage.app.settings.images_dir / image.file).read_bytes()
                assert files[f"pictures/{job_id}_{image.position}.png"] == kept


async def test_an_export_names_what_it_cannot_hold(stage, monkeypatch):
    gone, large, fine = await drawn(stage, "bob", 3)
    root = stage.app.settings.images_dir
    paths = {job: root / (await stage.queue.images(job))[0].file for job in (gone, large, fine)}
    paths[gone].unlink()
    data = paths[large].read_bytes().ljust(FILE_BYTES, b"\0")
    paths[large].write_bytes(data)
    entered = (hashlib.sha256(data).hexdigest(), len(data), large)
    await stage.database.write(
        lambda tx: tx.execute(
            "UPDATE images SET sha256 = ?, size_bytes = ? WHERE job_id = ?", entered
        )
    )
    told = await export(stage, "bob")
    assert "2 pictures are in none" in told.content
    jobs, files = unpacked([m for m in stage.sandbox.user("bob").messages("dm") if m.files])
    assert jobs == {gone, large, fine}
    readme = files["README.txt"].decode()
    assert f"{paths[gone].name}: its file is gone" in readme
    assert f"{paths[large].name}: {FILE_BYTES} bytes" in readme
    assert f"pictures/{paths[fine].name}" in files


async def test_an_export_that_breaks_off_says_where_to_go_on(sandbox, tmp_path, request):
    async with staged(sandbox, tmp_path, limit_open_jobs=9, limit_cooldown_seconds=0) as stage:
        request.getfixturevalue("small")
        await drawn(stage, "bob", 3, count=2)
        seen = []
        sandbox.faults.respond(
            "POST", "/channels/*/messages", 503, when=lambda e: seen.append(e) or len(seen) == 2
        )
        told = await export(stage, "bob")
        assert "Sent: 1 file" in told.content
        assert named_place(told) is not None


async def test_an_export_longer_than_its_token_ends_in_a_direct_message(stage):
    await drawn(stage, "bob", 1)
    sandbox, bob = stage.sandbox, stage.sandbox.user("bob")
    held = sandbox.faults.hold("POST", "/channels/*/messages")
    await bob.slash("general", "privacy export")
    await soon(held.reached.wait())
    sandbox.clock.advance(16 * 60)
    held.release()
    assert await sandbox.wait(lambda: [m for m in bob.messages("dm") if "Sent: 1" in m.content])


async def test_one_export_a_user_at_a_time(stage):
    held = stage.sandbox.faults.hold("POST", "/channels/*/messages")
    bob = stage.sandbox.user("bob")
    first = await bob.slash("general", "privacy export")
    await soon(held.reached.wait())
    second = await (await bob.slash("general", "privacy export")).answer()
    assert "already" in second.content
    held.release()
    await first.until(lambda m: "Sent" in m.content)
    assert "Sent" in (await export(stage, "bob")).content


async def test_one_export_a_user_at_a_time_also_where_two_go_on_at_once(stage, monkeypatch):
    """The second comes while the first is looking for its place."""
    (mine,) = await drawn(stage, "bob", 1)
    privacy = stage.app.client.services.privacy
    looking, found = asyncio.Event(), asyncio.Event()
    place = privacy.place

    async def slowly(user_id, text):
        looking.set()
        await soon(found.wait())
        return await place(user_id, text)

    monkeypatch.setattr(privacy, "place", slowly)
    bob = stage.sandbox.user("bob")
    first = await bob.slash("general", "privacy export", after=mine)
    await soon(looking.wait())
    second = await (await bob.slash("general", "privacy export", after=mine)).answer()
    assert "already" in second.content
    found.set()
    assert "Sent" in (await first.until(lambda m: "file" in m.content)).content


async def test_an_export_goes_on_at_its_own_places_alone(stage):
    (mine,) = await drawn(stage, "bob", 1)
    (other,) = await drawn(stage, "alice", 1)
    bob = stage.sandbox.user("bob")
    for after in ("nothing", "01m8gzzbtr2nxstb3g", other, f"{mine}.x", f"{mine}."):
        answer = await (await bob.slash("general", "privacy export", after=after)).answer()
        assert "None of your exports" in answer.content
    told = await export(stage, "bob", after=f" `{mine.upper()}` ")
    assert "Sent: 1 file" in told.content


@pytest.mark.slow
async def test_an_export_takes_no_more_memory_however_much_there_is(stage):
    """Some 8 MB of rows in files of a quarter of one; all of them, each once, in order."""
    (first,) = await drawn(stage, "bob", 1)
    await stage.delivered(first)
    number = 4000
    await stage.database.write(lambda tx: multiply(tx, number))
    privacy, user_id = stage.app.client.services.privacy, stage.sandbox.user("bob").id
    limit, ids, sizes = 2**18, [], []
    tracemalloc.start()
    async for part in privacy.export(user_id, limit):
        sizes.append(len(part.data))
        with zipfile.ZipFile(io.BytesIO(part.data)) as archive:
            for name in archive.namelist():
                if name.startswith("data"):
                    ids += [job["id"] for job in json.loads(archive.read(name))["jobs"]]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == len(set(ids)) == number + 1
    assert max(sizes) <= limit
    print(f"peak of {peak / 2**20:.1f} MiB for {sum(sizes) / 2**20:.1f} MiB of ZIP files")  # noqa: T201
    assert peak < 6 * 2**20


async def multiply(tx, number: int) -> None:
    """Add `number` jobs like the first, later and with prompts that pack badly."""
    row = dict(await tx.one("SELECT * FROM jobs"))
    columns = ", ".join(row)
    marks = ", ".join("?" * len(row))
    for n in range(number):
        prompt = secrets.token_hex(800)
        request = json.dumps(json.loads(row["request"]) | {"prompt": prompt})
        values = row | {"id": f"z{n:017}", "source_id": f"x{n}", "request": request}
        values["created_at"] += 1 + n // 3
        await tx.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", [*values.values()])


async def test_what_was_deleted_is_said_though_the_question_went_too(stage):
    """It may be dismissed while the deletion takes its minutes."""
    alice = stage.sandbox.user("alice")
    message = await stage.outcome(await stage.imagine("alice", "a house"))
    message.flags = 0  # As the question itself, which has content.
    message.components = [
        {
            "type": 1,
            "id": 1,
            "components": [
                {"type": 2, "id": 2, "style": 4, "label": "x", "custom_id": "wipe:mine"}
            ],
        }
    ]
    pressed = await alice.press(message, "wipe:mine")
    await stage.sandbox.world.events.wait(lambda: pressed.followups)
    (told,) = pressed.followups
    assert "Deleted: 1 job" in told.content
    assert told.ephemeral
    assert message.deleted


async def test_what_was_deleted_is_said_where_that_took_longer_than_the_token_lives(stage, caplog):
    sandbox, bob = stage.sandbox, stage.sandbox.user("bob")
    message = await stage.outcome(await stage.imagine("bob", "a house"))
    await stage.delivered(job_id_of(message))
    asked = await (await bob.slash("general", "privacy delete")).answer()
    held = sandbox.faults.hold("DELETE", "/channels/*/messages/*")
    await bob.press(asked, "Delete everything")
    await soon(held.reached.wait())
    sandbox.clock.advance(16 * 60)
    held.release()
    assert await sandbox.wait(lambda: [m for m in bob.messages("dm") if "Deleted: 1" in m.content])
    assert "unexpected" not in caplog.text
