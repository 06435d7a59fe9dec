"""Every old job is readable: shown, listed, handed out, with the pictures that are recorded."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import zipfile
from contextlib import closing

from tests.upgrade.kit import upgraded
from tests.upgrade.scene import digests, ids, said
from tests.wire.kit import PATIENCE_S, is_outcome

OWNERS = {
    "alice": ("single", "lora", "varied"),
    "bob": ("tiny", "plain", "batch", "start", "private", "elsewhere", "by message"),
    "chen": ("chens", "to cancel", "to delete", "to report"),
    "mallory": ("mallorys",),
}


def test_the_files_are_those_that_the_database_names(old):
    for file, sha256 in old.rows("SELECT file, sha256 FROM images"):
        assert hashlib.sha256((old.images / file).read_bytes()).hexdigest() == sha256, file


async def test_show_brings_every_picture_as_it_was(drill):
    for who, names in OWNERS.items():
        person, jobs = drill.sandbox.user(who), [drill.old.jobs[name] for name in names]
        for name, job_id in zip(names, jobs, strict=True):
            asked = await person.slash("general", "show", job=job_id)
            message = await asked.until(lambda found: found.files)
            assert digests(message) == drill.old.pictures(name), name
            assert f"details:{job_id}" in ids(message)
        offered = await person.autocomplete("general", "show", "job")
        assert set(jobs) <= {choice["value"] for choice in offered}


async def test_show_tells_how_the_others_ended(drill):
    jobs = drill.old.jobs
    for who, job, words in (
        ("alice", "failed", "The model failed while it drew this"),
        ("chen", "cancelled", "Cancelled"),
        ("chen", "deleted", "This picture was deleted."),
        ("bob", "single", "There is no job of yours with that id"),
    ):
        assert words in await drill.say(who, "show", job=jobs[job]), job


async def test_every_job_of_the_database_is_read_whole(drill):
    for (job_id,) in drill.old.rows("SELECT id FROM jobs"):
        job = await drill.stage.queue.job(job_id)
        row = drill.old.rows("SELECT request, seed, created_at FROM jobs WHERE id = ?", job_id)[0]
        kept = json.loads(row[0])
        assert (job.request.prompt, job.request.seed) == (kept["prompt"], row[1])
        assert job.created_at == row[2]


async def test_a_field_that_this_code_does_not_know_is_kept(sandbox, old):
    """A row that a newer bot wrote before its owner went back is read, and loses nothing."""
    with closing(sqlite3.connect(old.root / "data" / "bot.sqlite3")) as database:
        for name in ("plain", "waiting"):
            sql = "UPDATE jobs SET request = json_set(request, '$.later', 'kept') WHERE id = ?"
            database.execute(sql, (old.jobs[name],))
        database.commit()
    async with upgraded(sandbox, old) as drill:
        await drill.settled("waiting")
        asked = await drill.sandbox.user("bob").slash("general", "show", job=old.jobs["plain"])
        assert digests(await asked.until(lambda found: found.files)) == old.pictures("plain")
        await (await drill.press("bob", "plain", "reroll")).until(is_outcome, PATIENCE_S)
        for name in ("plain", "waiting"):
            job = await drill.stage.queue.job(old.jobs[name])
            assert json.loads(job.request.to_json())["later"] == "kept"


async def test_history_lists_them_and_its_old_page_still_turns(drill):
    bob, names = drill.sandbox.user("bob"), OWNERS["bob"]
    page = drill.message("history")
    older = await bob.press(page, f"page:before:{drill.old.jobs[names[1]]}:")
    await older.until(lambda message: "a red circle" in message.content)
    opened = await bob.select(page, "open:history", drill.old.jobs["tiny"])
    one = await opened.until(lambda message: message.files)
    assert digests(one) == drill.old.pictures("tiny")
    await drill.settled("interrupted")
    listed = await (await bob.slash("general", "history")).until(lambda found: found.files)
    for prompt in ("slow river", "a boat by message", "far from home", "three boats"):
        assert prompt in listed.content
    found = await bob.slash("general", "history", text="circle")
    assert "a red circle" in (await found.until(lambda message: message.files)).content


async def test_an_export_holds_rows_and_pictures_of_then(drill):
    bob = drill.sandbox.user("bob")
    await drill.settled("interrupted")
    exported = await bob.slash("general", "privacy export")
    await exported.until(lambda message: "Sent" in message.content)
    (sent,) = [m for m in bob.messages("dm") if m.files and m.files[0].filename.endswith("zip")]
    with zipfile.ZipFile(io.BytesIO(sent.files[0].data)) as archive:
        rows = json.loads(archive.read("data.json"))
        pictures = {
            hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.startswith("pictures/")
        }
    mine = {drill.old.jobs[job] for job in (*OWNERS["bob"], "interrupted")}
    assert {job["id"] for job in rows["jobs"]} == mine
    assert {digest for job in OWNERS["bob"] for digest in drill.old.pictures(job)} <= pictures


async def test_the_pictures_files_tell_how_they_were_made(drill):
    alice = drill.sandbox.user("alice")
    answer = await (
        await alice.context_menu("general", "Show parameters", drill.message("tiny"))
    ).answer()
    for part in ("a red circle, watercolour painting", "Seed: 7", "Steps: 4"):
        assert part in said(answer)
