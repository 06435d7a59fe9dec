"""The log that a running bot leaves."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from bot.sandbox.server import Sandbox
from tests.process.kit import PATIENCE_S, bot_process
from tests.wire.kit import is_outcome, job_id_of

pytestmark = pytest.mark.slow


async def test_every_line_of_a_job_has_its_id(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "painter") as process:
        await sandbox.ready(PATIENCE_S)
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a red garden gate")
        job_id = job_id_of(await invocation.until(is_outcome, PATIENCE_S))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        terminal = (await process.stderr.read()).decode()
    text = (tmp_path / "logs" / "ai-server.log").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    # Accepted, drawn in the child, delivered: each in a task or process of its own.
    said = {line["logger"] for line in lines if line["job"] == job_id}
    assert {"bot.client.accept", "bot.fleet.session", "bot.engine.child"} <= said
    assert "bot.delivery.courier" in said
    assert "painting" in [line["message"] for line in lines if line["job"] == job_id]
    assert "stopping" in [line["message"] for line in lines]
    assert "red garden gate" not in text + terminal
    assert f"{job_id} " in terminal
