"""What `python -m bot doctor` says of the data folder, with its exit codes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from bot.cli.main import main
from bot.config.settings import Settings
from bot.doctor import disk, run
from storage.database import Database
from storage.images import ImageStore
from tests.jobs.kit import MODEL, open_queue, submit

OLD = time.time() - 2 * 24 * 3600
DATA = "data folder,free disk,SQLite,database,schema,pictures,temporary files,private files"


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    # As `main` sets it, before the pictures are made, and no test hands it on.
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def examine(capsys):
    def examine() -> tuple[int, dict[str, list[tuple[str, str]]]]:
        code = main(["doctor", "--json", "--only", DATA])
        found: dict[str, list[tuple[str, str]]] = {}
        for item in json.loads(capsys.readouterr().out):
            assert (item["level"] == "ok") is (item["step"] == "")
            found.setdefault(item["check"], []).append((item["level"], item["text"]))
        return code, found

    return examine


async def make_pictures(folder: Path) -> list[tuple[str, Path]]:
    """Run three jobs to their end, each with a picture."""
    store, made = ImageStore(folder / "images"), []
    async with open_queue(folder) as (queue, _):
        for number in range(3):
            await submit(queue)
            job = await queue.get()
            source = store.work_dir(job.id) / "0.png"
            source.write_bytes(b"picture %d" % number)
            record = await store.keep(job.id, 0, source, width=1, height=1, seed=0)
            await store.clear(job.id)
            assert await queue.commits.record_generated(job, [record], {}, None, MODEL)
            made.append((job.id, store.path(record)))
    return made


async def test_a_sound_installation(tmp_path, examine, capsys):
    await make_pictures(tmp_path)
    code, found = examine()
    assert code == 0
    assert {level for items in found.values() for level, _ in items} == {"ok"}
    assert "3 recorded" in found["pictures"][0][1]
    assert main(["doctor", "--only", DATA]) == 0
    assert "errors: 0, warnings: 0" in capsys.readouterr().out


async def test_before_the_first_start(examine, tmp_path):
    code, found = examine()
    assert code == 0
    assert found["database"][0][0] == "ok"
    assert not list(tmp_path.iterdir())


async def test_missing_changed_and_unknown_pictures_are_named(tmp_path, examine):
    (gone, gone_file), (changed, changed_file), _ = await make_pictures(tmp_path)
    gone_file.unlink()
    changed_file.write_bytes(b"picture!1")
    for name in ("old", "young"):
        stray = changed_file.with_name(f"{name}_0.png")
        stray.write_bytes(b"x")
    os.utime(stray.with_name("old_0.png"), (OLD, OLD))
    code, found = examine()
    assert code == 1
    errors = [text for level, text in found["pictures"] if level == "error"]
    assert len(errors) == 2
    assert any(gone in text and "is missing" in text for text in errors)
    assert any(changed in text and "has changed" in text for text in errors)
    warnings = [text for level, text in found["pictures"] if level == "warning"]
    assert [str(changed_file.with_name("old_0.png")) in text for text in warnings] == [True]


async def test_left_overs_are_named_once_they_are_old(tmp_path, examine):
    await make_pictures(tmp_path)
    work = tmp_path / "images" / ".work" / "01oldjob"
    work.mkdir(parents=True)
    (tmp_path / "copy.partial").write_text("half")
    assert examine()[1]["temporary files"][0][0] == "ok"
    for path in (work, tmp_path / "copy.partial"):
        os.utime(path, (OLD, OLD))
    code, found = examine()
    assert code == 0
    assert [level for level, _ in found["temporary files"]] == ["warning", "warning"]


@pytest.mark.parametrize("damage", ["zeroed", "cut", "newer", "a folder"])
async def test_a_database_that_would_not_open(tmp_path, examine, damage, monkeypatch):
    await make_pictures(tmp_path)
    path = tmp_path / "bot.sqlite3"
    content = path.read_bytes()
    match damage:
        case "zeroed":
            path.write_bytes(bytes(len(content)))
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "newer":
            database = await Database.open(path)
            await database.write(lambda tx: tx.execute("PRAGMA user_version = 99"))
            await database.close()
        case _:
            shutil.rmtree(tmp_path / "images")
            path.unlink()
            path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    code, found = examine()
    assert code == 1
    place = "schema" if damage == "newer" else "database"
    assert found[place][0][0] == "error"
    assert before is None or path.read_bytes() == before


async def test_little_room_is_said(examine, monkeypatch):
    monkeypatch.setattr(disk, "_LOW_BYTES", 2**80)
    code, found = examine()
    assert (code, found["free disk"][0][0]) == (0, "warning")
    monkeypatch.setattr(disk, "_NO_BYTES", 2**80)
    code, found = examine()
    assert (code, found["free disk"][0][0]) == (1, "error")


def test_a_wrong_setting_is_one_error(examine, monkeypatch):
    monkeypatch.setenv("LIMIT_OPEN_JOBS", "many")
    code, found = examine()
    assert code == 1
    assert list(found) == ["settings"]


def test_each_wrong_setting_is_an_error_of_its_own(tmp_path, capsys):
    (tmp_path / ".env").write_text("LIMIT_OPEN_JOBS=many\nLOG_LEVEL=LOUD\n")
    assert main(["doctor", "--only", "settings"]) == 1
    said = capsys.readouterr().out
    assert "errors: 2, warnings: 0" in said
    assert "ERROR    settings: LOG_LEVEL: it must be" in said
    assert said.count("the rest was not checked") == 1


def printed_names() -> set[str]:
    """Return each name that a module of the doctor gives a finding, by its source."""
    found = set()
    for path in Path(run.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign)
            and isinstance(target := node.target, ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            name = node.args[0]
            if isinstance(name, ast.Constant):
                found.add(name.value)
            elif isinstance(name, ast.Name):
                found.add(named.get(name.id, "settings"))  # the runner's own: any check's
    return found - {"--only"}


def test_only_knows_every_name_that_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("IMAGE_MODEL_NAME", "tiny")
    names = printed_names()
    assert {"Python", "settings", "clock", "invitation", "graphics memory"} <= names
    ran: set[str] = set()
    monkeypatch.setattr(run, "_bounded", lambda name, *_: ran.add(name) or [])
    for name in sorted(names):
        ran.clear()
        main(["doctor", "--only", name])
        said = capsys.readouterr().out
        assert "there is no check" not in said
        assert ran or name == "settings", name
    main(["doctor", "--only", "Pythn"])
    said = capsys.readouterr().out
    assert "there is no check pythn" in said
    assert "one of: Python, packages, tested versions, settings, .env, " in said


async def test_it_reads_beside_a_bot_that_runs(tmp_path, examine):
    async with open_queue(tmp_path) as (queue, _):
        job = await submit(queue)
        code, _ = examine()
        assert code == 0
        assert (await queue.job(job.id)).id == job.id


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_files_that_others_may_read_are_named(tmp_path, examine):
    await make_pictures(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert examine()[1]["private files"] == [("ok", "what is kept is yours alone")]
    (tmp_path / "images").chmod(0o755)
    (tmp_path / "bot.sqlite3").chmod(0o644)
    code, found = examine()
    assert code == 0
    ((level, text),) = found["private files"]
    assert level == "warning"
    assert text.endswith(f"can read {tmp_path / 'bot.sqlite3'} and 1 more")
