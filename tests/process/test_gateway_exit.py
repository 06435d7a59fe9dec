"""What Discord closes for good ends the process as a mistake in the settings does."""

from __future__ import annotations

import asyncio

import pytest

from bot.sandbox.server import Sandbox
from tests.process.test_run import PATIENCE_S, bot_process

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("code", [4004, 4014])
async def test_the_exit_code_is_78(tmp_path, code):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path) as process:
        await sandbox.ready(PATIENCE_S)
        sandbox.gateway.close(code)
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
    assert process.returncode == 78
    *_, last = errors.decode().strip().splitlines()
    assert last.startswith("Discord")
    assert "Traceback" not in errors.decode()
