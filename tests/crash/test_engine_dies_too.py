"""Kill -9 of the bot while it draws: nothing keeps the graphics card, and the next start draws."""

from __future__ import annotations

import asyncio
import os

import pytest

from bot.sandbox.server import Sandbox
from tests.crash.kit import PATIENCE_S, Answers, bot_on, rows, wrong_pictures
from tests.wire.kit import job_id_of, text_of

GONE_S = 5
"""The bar: seconds after the bot's death within which its engine has ended."""


async def gone(pidfd: int) -> None:
    """Wait for the end of a process that is not ours."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@pytest.mark.slow
async def test_the_engine_ends_with_the_bot_and_the_next_start_draws(tmp_path):
    model = tmp_path / "model"
    async with Sandbox() as sandbox, bot_on(sandbox, tmp_path, image_model_path=model) as bot:
        answers = Answers(sandbox)
        await bot.start()
        assert await bot.ready()
        invocation = await sandbox.user("bob").slash("art", "imagine", prompt="slow moon")
        message = await invocation.until(lambda m: "Step 2 of" in text_of(m), PATIENCE_S)
        job_id = job_id_of(message)
        (engine,) = bot.engine_pids()
        watched = os.pidfd_open(engine)
        bot.kill()
        async with asyncio.timeout(GONE_S):
            await gone(watched)
        await bot.ended()
        model.mkdir()
        (model / "go").touch()
        await bot.start()
        await sandbox.wait(lambda: answers.outcomes[job_id], PATIENCE_S)
        assert await bot.stop() == 0
        (seen,) = answers.outcomes[job_id].values()
        assert not wrong_pictures(bot, seen)
        (job,) = rows(
            bot.database, "SELECT state, attempts, interruptions, engine_faults FROM jobs"
        )
        assert job == {"state": "generated", "attempts": 2, "interruptions": 1, "engine_faults": 0}
