"""`python -m bot backup` beside a bot at work, and the start from what it wrote."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import sys
from contextlib import closing

import pytest

from bot.archive.backup import back_up, report
from bot.cli.main import main
from bot.domain.job import JobState, Target
from bot.domain.request import ImageRequest
from bot.jobs.with_picture import holding, submit_with_picture
from bot.sandbox.server import Sandbox
from storage.input_pictures import GivenInputs
from storage.migrate import prepare, read_migrations
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import make_origin
from tests.process.kit import ROOT, bot_process, environment
from tests.wire.conftest import _route, judge, sandbox
from tests.wire.kit import PATIENCE_S, controls, is_outcome, job_id_of, soon, staged
from tests.wire.test_pictures_in import png

__all__ = ["_route", "judge", "sandbox"]


async def command(sandbox: Sandbox, data, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *arguments, cwd=data, env=environment(sandbox, data),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return said.decode()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_told_without_its_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    prepare(tmp_path / "bot.sqlite3", read_migrations())
    (tmp_path / "file").touch()
    assert main(["backup", str(tmp_path / "file" / "copy")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "(Not a directory): name a folder that can be written" in said
    assert "Errno" not in said


@pytest.mark.slow
async def test_a_restore_after_a_backup_under_load_loses_no_job(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    accepted: list[str] = []
    enough = asyncio.Event()
    limits = {"LIMIT_OPEN_JOBS": "1000", "LIMIT_IMAGES_PER_DAY": "1000"}
    async with Sandbox() as sandbox:
        async with bot_process(sandbox, data, "painter", **limits):
            await sandbox.ready(PATIENCE_S)
            invocations = {}

            async def load(name: str) -> None:
                while True:
                    invocation = await sandbox.user(name).slash("art", "imagine", prompt="a moon")
                    job_id = job_id_of(await invocation.answer())
                    invocations[job_id] = invocation
                    accepted.append(job_id)
                    if len(accepted) >= 10:
                        enough.set()

            loads = [asyncio.create_task(load(name)) for name in ("alice", "bob")]
            async with asyncio.timeout(PATIENCE_S):
                await enough.wait()
                await invocations[accepted[0]].until(is_outcome, PATIENCE_S)
                before = list(accepted)
                said = await command(sandbox, data, "backup", str(copy), "--images")
            for task in loads:
                task.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
        assert f"to {copy}" in said
        assert "missing" not in said
        assert (copy / "bot.sqlite3").stat().st_mode & 0o077 == 0
        with closing(sqlite3.connect(copy / "bot.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            copied = {row[0] for row in database.execute("SELECT id FROM jobs")}
        assert set(before) <= copied

        async with bot_process(sandbox, copy, "painter"):
            async with asyncio.timeout(PATIENCE_S):
                await sandbox.ready(PATIENCE_S)
                for job_id in copied:
                    if job_id in invocations:
                        await invocations[job_id].until(is_outcome, PATIENCE_S)
            findings = json.loads(await command(sandbox, copy, "doctor", "--json"))
        assert {f["level"] for f in findings} == {"ok"}
    with closing(sqlite3.connect(copy / "bot.sqlite3")) as database:
        for job_id, file, sha256 in database.execute("SELECT job_id, file, sha256 FROM images"):
            kept = copy / "images" / file
            assert hashlib.sha256(kept.read_bytes()).hexdigest() == sha256, job_id


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def test_two_backups_of_one_second_are_two_folders(here, monkeypatch):
    prepare(here / "bot.sqlite3", read_migrations())
    monkeypatch.setattr("bot.archive.backup.time.strftime", lambda *_: "20261128-120000")
    assert [main(["backup"]) for _ in range(3)] == [0, 0, 0]
    names = {folder.name for folder in (here / "backups").iterdir()}
    assert names == {"20261128-120000", "20261128-120000-2", "20261128-120000-3"}


def test_what_cannot_be_backed_up_is_one_sentence(here, capsys):
    assert main(["backup"]) == 1
    assert "nothing to back up" in capsys.readouterr().err
    with closing(sqlite3.connect(here / "bot.sqlite3")) as database:
        database.executescript((ROOT / "storage/migrations/0001_initial.sql").read_text())
    (here / "there").mkdir()
    assert main(["backup", str(here / "there")]) == 1
    assert "exists already" in capsys.readouterr().err
    (here / "file").write_text("")
    assert main(["backup", str(here / "file" / "copy")]) == 1
    assert "failed" in capsys.readouterr().err
    assert main(["backup"]) == 0
    assert "Backed up 0 jobs" in capsys.readouterr().out
    assert len(list((here / "backups").iterdir())) == 1


async def test_pictures_to_start_from_are_copied_and_void_tokens_are_not(sandbox, tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    engine = ScriptedEngine(Script(), Script(hold_at=1))
    async with staged(sandbox, data, engine) as stage:
        first = await stage.outcome(await stage.imagine("bob", "in oil", image=("a.png", png())))
        await stage.delivered(job_id_of(first))
        await stage.imagine("bob", "held", image=("b.png", png((40, 50))))
        await soon(engine.holding.wait())
        lost = await stage.imagine("chen", "waits", image=("c.png", png()))
        lost_id = job_id_of(await lost.until(controls))
        (file,) = (data / "images/inputs").glob(f"{lost_id}.*")
        file.unlink()
        (data / "images/inputs/stranger.input").write_bytes(b"of no job")
        made = await asyncio.to_thread(back_up, stage.app.settings, copy, images=True)
        with closing(sqlite3.connect(data / "bot.sqlite3")) as database:
            held = [row[0] for row in database.execute("SELECT token FROM deliveries") if row[0]]
        assert len(held) == 2, "two answers wait, each with its token"
    inputs = {path.read_bytes() for path in (copy / "images/inputs").iterdir()}
    assert inputs == {png(), png((40, 50))}
    said = report(made, images=True)
    assert "Pictures to start from copied: 2." in said
    assert f"missing or changed: the start of job {lost_id}" in said
    whole = (copy / "bot.sqlite3").read_bytes()
    assert b"held" in whole
    assert all(whole.count(token.encode()) == 1 for token in held), "they open something for now"
    with closing(sqlite3.connect(data / "bot.sqlite3")) as database:
        database.execute("UPDATE deliveries SET token_expires_at = 1")
        database.commit()
    back_up(stage.app.settings, tmp_path / "later", images=False)
    later = (tmp_path / "later/bot.sqlite3").read_bytes()
    assert not any(token.encode() in later for token in held)


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True])
async def test_jobs_that_wait_are_drawn_from_their_files_after_a_restore(tmp_path, images):
    """What they start from is in every backup; what ended ones started from, with the pictures."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with Sandbox() as sandbox:
        engine = ScriptedEngine(Script(), Script(hold_at=1))
        async with staged(sandbox, data, engine) as stage:
            await stage.outcome(await stage.imagine("bob", "in oil", image=("a.png", png())))
            await stage.imagine("bob", "held", image=("b.png", png((40, 50))))
            await soon(engine.holding.wait())
            gallery, job_id = stage.app.client.services.gallery, stage.queue.new_job_id()
            given = GivenInputs(None, (png((30, 30)), png((50, 40))), png((30, 31)))
            request = ImageRequest("make it blue", width=256, height=256, steps=3)

            async def prepare() -> ImageRequest:
                return holding(request, await gallery.inputs.keep(job_id, given))

            await submit_with_picture(
                stage.queue,
                gallery.inputs,
                request,
                make_origin(5, target=Target.MESSAGE),
                prepare,
                job_id=job_id,
            )
            made = await asyncio.to_thread(back_up, stage.app.settings, copy, images=images)
            assert (made.inputs, made.unusable) == (5 if images else 4, [])
    async with Sandbox() as sandbox:
        engine = ScriptedEngine()
        async with staged(sandbox, copy, engine) as stage:
            # This Discord is another one: the answer is kept.
            await stage.delivered(job_id)
            job = await stage.queue.job(job_id)
            assert job.state is JobState.GENERATED
            assert await stage.app.client.services.gallery.read_inputs(job) == given
    assert sorted(engine.inputs.values()) == sorted([png((40, 50)), given.references[0]])
    assert engine.masks == {job_id: given.mask}
    assert engine.references[job_id] == [*given.references]
