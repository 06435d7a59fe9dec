"""Stops and restarts of the real process, by real signals, in the middle of a step."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from bot.sandbox.server import Sandbox
from tests.process.kit import PATIENCE_S, bot_process, children, logged, row
from tests.wire.kit import is_outcome, job_id_of, text_of

JOB = "SELECT state, attempts, interruptions, engine_faults FROM jobs WHERE id = ?"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")


async def drawing(sandbox: Sandbox, prompt: str):
    """Ask for a picture, and wait until its child is in the middle of a step."""
    invocation = await sandbox.user("bob").slash("art", "imagine", prompt=prompt)
    message = await invocation.until(lambda message: "Step" in text_of(message), PATIENCE_S)
    return invocation, job_id_of(message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "number"),
    [
        ("steps", signal.SIGTERM),
        # A child that does not obey costs its parent's patience.
        ("deaf", signal.SIGTERM),
        ("hang", signal.SIGINT),
    ],
)
async def test_a_stop_in_the_middle_of_a_step_costs_the_job_nothing(tmp_path, prompt, number):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "misbehaving") as process:
        await sandbox.ready(PATIENCE_S)
        _, job_id = await drawing(sandbox, prompt)
        (child,) = children(process.pid)
        process.send_signal(number)
        async with asyncio.timeout(10):  # The promise itself.
            assert await process.wait() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert row(tmp_path, JOB, job_id) == ("queued", 0, 0, 0)


@pytest.mark.slow
async def test_a_child_that_was_dead_at_the_stop_counts_against_its_job(tmp_path):
    """The kernel kills the engine for its memory, and the service manager stops the bot at once."""
    async with Sandbox() as sandbox:
        job_id = None
        for state, faults in (("queued", 1), ("failed", 2)):
            async with bot_process(sandbox, tmp_path, "misbehaving") as process:
                await sandbox.ready(PATIENCE_S)
                if job_id is None:
                    _, job_id = await drawing(sandbox, "hang")
                await logged(process, "it hangs")
                (child,) = children(process.pid)
                process.send_signal(signal.SIGSTOP)  # It learns of both at once.
                os.kill(child, signal.SIGKILL)
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
                async with asyncio.timeout(10):
                    assert await process.wait() == 0
            assert row(tmp_path, JOB, job_id)[::3] == (state, faults)


@pytest.mark.slow
async def test_a_stop_of_the_whole_group_costs_the_job_nothing(tmp_path):
    """Service managers may send the signal to each process of a service, the engine's first."""
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "misbehaving") as process:
        await sandbox.ready(PATIENCE_S)
        _, job_id = await drawing(sandbox, "hang")
        (child,) = children(process.pid)
        for pid in (child, process.pid):
            os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert row(tmp_path, JOB, job_id) == ("queued", 0, 0, 0)


@pytest.mark.slow
async def test_a_command_during_the_stop_is_told_so(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "misbehaving") as process:
        await sandbox.ready(PATIENCE_S)
        await drawing(sandbox, "hang")
        process.send_signal(signal.SIGTERM)
        await logged(process, "stopping")
        late = await sandbox.user("alice").slash("art", "imagine", prompt="too late")
        assert "shutting down" in text_of(await late.answer())
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert row(tmp_path, "SELECT count(*) FROM jobs") == (1,)


@pytest.mark.slow
async def test_a_second_signal_ends_at_once_and_a_paused_start_waits(tmp_path):
    async with Sandbox() as sandbox:
        async with bot_process(sandbox, tmp_path, "misbehaving") as process:
            await sandbox.ready(PATIENCE_S)
            invocation, job_id = await drawing(sandbox, "hang")
            process.send_signal(signal.SIGTERM)
            await logged(process, "stopping")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 1
        assert row(tmp_path, JOB, job_id)[0] == "running"

        async with bot_process(sandbox, tmp_path, "painter", ON_RESTART="paused") as process:
            await logged(process, "the queue is paused: the bot was restarted")
            await sandbox.ready(PATIENCE_S)
            assert row(tmp_path, JOB, job_id) == ("queued", 1, 1, 0)
            listed = await sandbox.user("alice").slash("art", "admin queue")
            said = text_of(await listed.answer())
            assert "/admin resume" in said
            assert job_id in said
        # Killed while paused: the pause is durable, whatever the setting says now.
        async with bot_process(sandbox, tmp_path, "painter") as process:
            await logged(process, "the queue is paused")
            await sandbox.ready(PATIENCE_S)
            await sandbox.user("alice").slash("art", "admin resume")
            await invocation.until(is_outcome, PATIENCE_S)
    assert row(tmp_path, JOB, job_id) == ("generated", 2, 1, 0)


@pytest.mark.slow
async def test_a_paused_start_with_nothing_waiting_does_not_pause(tmp_path):
    extra = {"ON_RESTART": "paused"}
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "painter", **extra) as process:
        await sandbox.ready(PATIENCE_S)
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
        await invocation.until(is_outcome, PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.slow
async def test_a_stop_that_hangs_is_cut_short(tmp_path):
    extra = {"STOP_LIMIT_S": "0.2"}
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "misbehaving", **extra) as bot:
        await sandbox.ready(PATIENCE_S)
        _, job_id = await drawing(sandbox, "hang")
        bot.send_signal(signal.SIGTERM)
        await logged(bot, "took too long")
        assert await bot.wait() == 1
    assert row(tmp_path, JOB, job_id)[0] == "running"
