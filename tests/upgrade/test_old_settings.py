"""The old `.env` is read as it was; commands beside the bot work in the old folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import sys
from contextlib import closing

import pytest

from bot.cli.main import main
from bot.config.settings import Settings
from bot.sandbox.model import Message
from bot.sandbox.server import Sandbox
from tests.http.kit import ALICE, BOB
from tests.process.kit import PATIENCE_S, ROOT
from tests.upgrade.installation import Installation
from tests.upgrade.scene import digests, set_up
from tests.wire.kit import controls


@pytest.fixture(autouse=True)
def _only_the_file(monkeypatch):
    """No setting comes from the environment of the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def lines(old: Installation) -> dict[str, str]:
    pairs = [line.partition("=") for line in (old.root / ".env").read_text().splitlines()]
    return {name: value for name, mark, value in pairs if mark}


def test_every_name_of_then_is_known(old):
    assert {name.lower() for name in lines(old)} <= set(Settings.model_fields)
    assert {name.lower() for name in lines(old)} == set(old.reference("settings.json"))


def test_the_doctor_finds_no_strange_name(old, capsys):
    arguments = ["doctor", "--only", "setting names"]
    assert main(arguments) == 0
    assert "every name in .env is a setting" in capsys.readouterr().out
    # It does look at this file.
    with (old.root / ".env").open("a") as file:
        file.write("LIMIT_OPEN_JOB=6\n")
    main(arguments)
    assert "LIMIT_OPEN_JOB in .env is no setting" in capsys.readouterr().out


def test_every_value_of_then_is_read_as_then(old):
    expected = old.reference("settings.json")
    settings = old.settings()
    read = settings.model_dump(mode="json", exclude={"api_keys", "discord_token"})
    read = {name: value for name, value in read.items() if name in expected}
    read["owner_ids"] = sorted(read["owner_ids"])
    read["discord_token"] = settings.discord_token.get_secret_value()
    read["api_keys"] = {
        name: settings.api_keys.find(f"Bearer {key}").user_id
        for name, key in (("alice", ALICE), ("bob", BOB))
    }
    assert read == expected
    # Not one of them is read because it is the default anyway, except where no other would run.
    same = {
        name
        for name, field in Settings.model_fields.items()
        if name in expected and expected[name] == field.default
    }
    assert same <= {"image_check", "image_offload", "on_restart", "http_host", "log_dir"}


def test_a_backup_of_the_old_folder_can_be_made_and_is_whole(old, capsys):
    target = old.root / "copy"
    assert main(["backup", str(target), "--images"]) == 0
    said = capsys.readouterr().out
    assert f"Backed up {len(old.jobs)} jobs" in said
    assert "Not copied" not in said
    with closing(sqlite3.connect(target / "bot.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (len(old.jobs),)
        for file, sha256 in database.execute("SELECT file, sha256 FROM images"):
            assert hashlib.sha256((target / "images" / file).read_bytes()).hexdigest() == sha256
    kept = {path.name for path in (old.images / "inputs").iterdir()}
    assert {path.name for path in (target / "images" / "inputs").iterdir()} == kept


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(180)
async def test_the_bot_as_a_process_ends_what_the_old_one_began(old):
    """`python -m bot run` in the old folder, with the real tiny model in its child."""
    async with Sandbox() as sandbox:
        set_up(sandbox, old)
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "DISCORD_API_URL": sandbox.api_url,
            "HTTP_PORT": "0",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run",
            cwd=old.root, env=environment, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await sandbox.ready(PATIENCE_S)
            general = sandbox.world.channel("general").messages
            for job in ("undelivered", "interrupted", "waiting"):
                control = f"reroll:{old.jobs[job]}"

                def answers(control=control) -> list[Message]:
                    # What took long comes as a new message.
                    shown = (one for one in general.values() if not one.deleted)
                    return [one for one in shown if control in controls(one)]

                (message,) = await sandbox.wait(answers, PATIENCE_S)
                assert digests(message) == old.pictures(job)
        finally:
            process.terminate()
            await process.wait()
    assert process.returncode == 0
    assert json.loads((old.root / "logs" / "ai-server.log").read_text().splitlines()[0])
