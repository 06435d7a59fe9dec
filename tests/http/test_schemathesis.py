"""Every endpoint under generated requests, valid and not, judged by its own description."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.process.kit import bot_process, logged

KEY = "fuzzers-key-0123456789"
PLENTY = {
    "LIMIT_KEY_OPEN_JOBS": "100000",
    "LIMIT_KEY_IMAGES_PER_DAY": "1000000",
    "LIMIT_QUEUE_SIZE": "100000",
    "LIMIT_KEY_GPU_SECONDS_PER_DAY": "0",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_schemathesis_finds_nothing(tmp_path):
    port = free_port()
    door = {"API_KEYS": f"fuzz:{KEY}", "HTTP_PORT": str(port), **PLENTY}
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "painter", **door) as bot:
        await logged(bot, "online as")
        # The bot's log is read on, or its pipe fills.
        reading = asyncio.create_task(bot.stderr.read())
        report = tmp_path / "report.json"
        program = Path(sys.executable).with_name("st")
        run = await asyncio.create_subprocess_exec(
            program, "run", f"http://127.0.0.1:{port}/openapi.json",
            "-H", f"Authorization: Bearer {KEY}", "--max-examples", "20", "--seed", "1",
            # What a prompt may not hold (control characters) no schema says; and DELETE cancels a
            # job, which is still there afterwards and says so.
            "--exclude-checks", "positive_data_acceptance,use_after_free", "--no-shrink", "--continue-on-failure", "--request-timeout", "60",
            "--report", "json", "--report-json-path", report,
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await run.communicate()
        assert bot.returncode is None
        bot.terminate()
        log = (await reading).decode()
    found = json.loads(report.read_text())
    assert found["failures"] == [], said.decode()
    assert found["errors"] == []
    assert run.returncode == 0, said.decode()
    assert found["operations"]["tested"] == found["operations"]["total"] == 18
    assert found["test_cases"]["generated"] > 300
    assert "unexpected error" not in log
    assert KEY not in log
