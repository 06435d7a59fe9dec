"""Canaries in the place of secrets: the bot's token and interactions' tokens turn up nowhere."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest

from bot.app.app import App
from bot.config.settings import load_settings
from bot.domain.job import Origin, Target
from bot.errors import ConfigError, StartupError
from bot.sandbox import interactions
from bot.sandbox.server import Sandbox
from tests.hostile.kit import unruly
from tests.process.kit import PATIENCE_S, environment
from tests.wire.kit import is_outcome, job_id_of

CANARY = "canary-in-the-place-of-a-token"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


EDIT_BY_TOKEN = ("PATCH", "/webhooks/*")


@pytest.fixture
async def sandbox(monkeypatch):
    """A sandbox whose bot's token and interactions' tokens are canaries."""
    monkeypatch.setattr(Sandbox, "token", CANARY)
    made = interactions.secrets.token_hex
    monkeypatch.setattr(
        interactions.secrets, "token_urlsafe", lambda size: f"{CANARY}-{made(size)}"
    )
    monkeypatch.setenv("DISCORD_TOKEN", CANARY)
    async with Sandbox() as running:
        yield running


def dump(path: Path) -> str:
    """Every value in the database, but for `deliveries.token`."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = []
        for (table,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            rows = database.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            for row in rows:
                values = dict(zip(names, row, strict=True))
                if table == "deliveries":
                    del values["token"]
                found.append(str(values))
    return "\n".join(found)


def given_to(pid: int) -> bytes:
    """The environment and the command line of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def judge_files(folder: Path) -> None:
    pictures = [path for path in folder.rglob("*") if path.is_file()]
    assert pictures
    for path in pictures:
        assert CANARY.encode() not in path.read_bytes()


@pytest.mark.slow
@linux_only
async def test_no_token_turns_up_anywhere(sandbox, tmp_path, monkeypatch, log):
    data = tmp_path / "data"
    async with unruly(sandbox, tmp_path, monkeypatch, discord_token=CANARY) as stage:
        # Refusals, a cut connection and an answer that never came: warnings, errors, retries.
        sandbox.faults.respond(*EDIT_BY_TOKEN, 500)
        sandbox.faults.reset(*EDIT_BY_TOKEN, after=True)
        drawn = await stage.outcome(await stage.imagine("alice", "fine"))
        await stage.delivered(job_id_of(drawn))
        failed = await stage.outcome(await stage.imagine("alice", "raise"))
        await stage.delivered(job_id_of(failed))
        tokens = "SELECT count(*) FROM deliveries WHERE token IS NOT NULL"
        assert await stage.database.read(lambda tx: tx.value(tokens)) == 0

        await (await sandbox.user("alice").slash("general", "admin pause")).response()
        waiting = await stage.imagine("bob", "later")
        pending = await stage.job_of(await waiting.answer())
        delivery = await stage.delivery(pending.id)
        assert delivery.token.startswith(CANARY), "the canary is in its place"
        assert CANARY not in dump(data / "bot.sqlite3")
        assert CANARY.encode() not in given_to(stage.engine.pid)
        for held in (delivery, pending, stage.app.settings, stage.app.client, stage.engine):
            assert CANARY not in repr(held) + str(held)
    assert "WARNING" in log.getvalue()
    assert CANARY not in log.getvalue()
    judge_files(data / "images")


async def test_exceptions_and_bad_tokens_tell_nothing(sandbox, tmp_path, log, caplog):
    settings = load_settings(
        discord_api_url=sandbox.api_url,
        _env_file=None,
        image_model_name="tiny",
        data_dir=tmp_path,
        discord_token=f"{CANARY}-but-wrong",
    )
    with pytest.raises(StartupError) as caught:
        await App(settings).run()
    chain = "".join(traceback.format_exception(caught.value))
    assert "refused" in chain
    assert CANARY not in chain + log.getvalue()
    origin = Origin("i1", Target.INTERACTION, 1, "x", token=CANARY)
    assert CANARY not in repr(origin)
    with pytest.raises(ConfigError) as wrong:
        load_settings(_env_file=None, discord_token=[CANARY])
    assert CANARY not in "".join(traceback.format_exception(wrong.value))


@linux_only
@pytest.mark.slow
@pytest.mark.engine
async def test_no_token_in_what_the_real_processes_say(sandbox, tmp_path):
    env = environment(sandbox, tmp_path) | {"DISCORD_TOKEN": CANARY, "LOG_LEVEL": "DEBUG"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "run",
        env=env, cwd=tmp_path, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await sandbox.ready(PATIENCE_S)
        sandbox.faults.reset(*EDIT_BY_TOKEN, after=False)
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
        await invocation.until(is_outcome, PATIENCE_S)
        children = children_of(process.pid)
        assert children
        assert all(CANARY.encode() not in given_to(child) for child in children)
        process.send_signal(signal.SIGTERM)
        said = b"".join(await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0
    assert b"delivered by" in said
    assert CANARY.encode() not in said
    assert CANARY not in dump(tmp_path / "bot.sqlite3")
    judge_files(tmp_path / "images")
