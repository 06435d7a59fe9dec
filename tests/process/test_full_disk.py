"""Pictures that the disk refuses, in the real process: its and its child's file size limits."""

from __future__ import annotations

import resource
import sys

import pytest

from bot.sandbox.server import Sandbox
from tests.process.kit import PATIENCE_S, bot_process, children, row
from tests.wire.kit import is_outcome, job_id_of, text_of


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
async def test_pictures_that_the_disk_refuses_are_drawn_again(tmp_path):
    def limit(pid: int, size: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "painter") as process:
        await sandbox.ready(PATIENCE_S)
        first = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
        await first.until(is_outcome, PATIENCE_S)
        (child,) = children(process.pid)
        limit(child, 100)  # Less than a picture …
        limit(process.pid, 20 * 2**20)  # … and less than the room that a picture may need.
        second = await sandbox.user("bob").slash("art", "imagine", prompt="a star")
        message = await second.until(lambda shown: "disk is full" in text_of(shown), PATIENCE_S)
        job_id = job_id_of(message)
        state = "SELECT state, attempts, engine_faults, interruptions FROM jobs WHERE id = ?"
        assert row(tmp_path, state, job_id) == ("queued", 0, 0, 0)
        listed = await sandbox.user("alice").slash("art", "admin queue")
        assert "disk is full" in text_of(await listed.answer())
        resumed = await sandbox.user("alice").slash("art", "admin resume")
        assert "Still waiting" in text_of(await resumed.answer())
        for pid in (child, process.pid):
            limit(pid, resource.RLIM_INFINITY)
        await second.until(is_outcome, PATIENCE_S)
        assert children(process.pid) == [child]
    assert row(tmp_path, state, job_id) == ("generated", 1, 0, 0)
    assert not list(tmp_path.rglob("*.partial"))
