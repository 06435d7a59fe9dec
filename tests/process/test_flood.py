"""Connections by the hundred, at a service manager's usual limit of open files."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.process.kit import PATIENCE_S, bot_process, logged
from tests.wire.kit import is_outcome

FILES = 1024
FLOOD = 1200


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    """Start processes with that limit within the context."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def files_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
async def test_a_flood_of_connections_takes_nothing_from_discord(tmp_path):
    """Half of them say nothing, the others ask without a key; none of them hangs up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * FLOOD:
        pytest.skip("this machine lets the test itself open too few files")
    door = {"API_KEYS": "shop:a-key-of-the-shops", "HTTP_PORT": "0"}
    request = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    opened: list[asyncio.StreamWriter] = []
    async with Sandbox() as sandbox:
        starting = bot_process(sandbox, tmp_path, "painter", LIMIT_OPEN_JOBS="100", **door)
        with open_files(FILES):
            process = await starting.__aenter__()
        with open_files(min(hard, 20_000)):
            try:
                line = await logged(process, "the HTTP API is open at")
                port = int(re.search(r":(\d+) for", line)[1])
                log = asyncio.create_task(process.stderr.read())
                await sandbox.ready(PATIENCE_S)

                async def connect(number: int) -> None:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    opened.append(writer)
                    if number % 2:
                        writer.write(request)

                flood = asyncio.gather(*map(connect, range(FLOOD)))
                first = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
                assert (await first.response(PATIENCE_S)).message
                await flood
                asked = [
                    await sandbox.user(name).slash("art", "imagine", prompt=f"star {number}")
                    for number in range(10)
                    for name in ("alice", "bob")
                ]
                for invocation in asked:
                    assert (await invocation.response(PATIENCE_S)).message
                files = files_of(process.pid)
                for invocation in (first, *asked):
                    await invocation.until(is_outcome, PATIENCE_S)
                assert FILES // 4 < files < FILES * 3 // 4
            finally:
                for writer in opened:
                    writer.transport.abort()
                process.terminate()
                said = (await log).decode()
                await starting.__aexit__(None, None, None)
    about = [line for line in said.splitlines() if "is full with" in line]
    assert 1 <= len(about) <= 2, about
    assert "Traceback" not in said
    assert len(said) < 100_000
