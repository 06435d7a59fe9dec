"""The bot as people start it: real processes, the real tiny engine, real signals."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sqlite3
import sys

import pytest
from PIL import Image

from bot.sandbox.server import Sandbox
from tests.process.kit import PATIENCE_S, ROOT, bot_process
from tests.wire.kit import is_outcome, job_id_of, text_of


@pytest.mark.slow
@pytest.mark.engine
async def test_run_draws_and_stops_cleanly(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path) as process:
        await sandbox.ready(PATIENCE_S)
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a moon", count=2)
        message = await invocation.until(is_outcome, PATIENCE_S)
        assert len(message.files) == 2, text_of(message)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        log = (await process.stderr.read()).decode()
    assert "sandbox-token" not in log
    assert invocation.interaction.token not in log
    assert "a moon" not in log
    with sqlite3.connect(tmp_path / "bot.sqlite3") as database:
        rows = database.execute("SELECT position, file, sha256 FROM images ORDER BY 1").fetchall()
        state, token = database.execute("SELECT state, token FROM deliveries").fetchone()
    assert (state, token) == ("delivered", None)
    for (_, file, sha256), shown in zip(rows, message.files, strict=True):
        data = (tmp_path / "images" / file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
        assert shown.data == data
    assert [position for position, _, _ in rows] == [0, 1]


@pytest.mark.slow
async def test_a_second_bot_on_the_same_data_is_refused(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path):
        await sandbox.ready(PATIENCE_S)
        async with bot_process(sandbox, tmp_path) as second:
            _, errors = await second.communicate()
        assert second.returncode == 78
        assert len(errors.decode().strip().splitlines()) == 1


async def test_a_stop_while_drawing_gives_the_job_back(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path) as process:
        await sandbox.ready(PATIENCE_S)
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
        job_id = job_id_of(await invocation.answer())
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    with sqlite3.connect(tmp_path / "bot.sqlite3") as database:
        query = "SELECT state, attempts, interruptions FROM jobs WHERE id = ?"
        assert database.execute(query, (job_id,)).fetchone() == ("queued", 0, 0)


@pytest.mark.slow
@pytest.mark.engine
async def test_demo_once(tmp_path):
    out = tmp_path / "out.png"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "demo", "--once", "a lighthouse at night",
        "--out", str(out), "--data", str(tmp_path / "data"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert str(out) in said.decode()
    with Image.open(out) as picture:
        assert picture.size == (256, 256)
        assert picture.text["parameters"].startswith("a lighthouse at night")
    with sqlite3.connect(tmp_path / "data" / "bot.sqlite3") as database:
        assert database.execute("SELECT state FROM deliveries").fetchall() == [("delivered",)]


async def test_demo_once_says_why_it_fails(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "demo", "--once", "nul\x01", "--data", str(tmp_path / "data"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "control character" in errors.decode()
