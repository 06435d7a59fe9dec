"""The bot as a real process: `python -m bot run`, or the same with a pipeline of the tests."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from bot.sandbox.server import Sandbox

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_S = 50


def environment(sandbox: Sandbox, data: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, ROOT / "tests" / "engine"))),
        "DISCORD_API_URL": sandbox.api_url,
        "DATA_DIR": str(data),
        "IMAGE_MODEL_NAME": "tiny",
    }


@asynccontextmanager
async def bot_process(
    sandbox: Sandbox, data: Path, pipeline: str | None = None, **extra: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the bot; with `pipeline`, that module of the tests draws in the child."""
    program = ["-m", "bot", "run"] if pipeline is None else [HERE / "run_with.py", pipeline]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program,
        env=environment(sandbox, data) | extra, cwd=data, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(process: asyncio.subprocess.Process, words: str) -> str:
    """Wait for a line of the log."""
    async with asyncio.timeout(PATIENCE_S):
        while line := (await process.stderr.readline()).decode():
            if words in line:
                return line
    raise AssertionError(f"the log ended without {words!r}")


def row(data: Path, sql: str, *params: Any) -> tuple[Any, ...]:
    with closing(sqlite3.connect(data / "bot.sqlite3")) as database:
        return database.execute(sql, params).fetchone()


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
