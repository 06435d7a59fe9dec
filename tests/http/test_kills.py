"""202 is a promise: what was accepted is drawn, also when the process is killed right after."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bot.sandbox.server import Sandbox
from tests.http.kit import ALICE, GENERATE, events_of
from tests.http.test_schemathesis import free_port
from tests.process.kit import bot_process, logged

JOBS = 8


@pytest.mark.slow
async def test_accepted_jobs_survive_a_kill(tmp_path):
    port = free_port()
    door = {"API_KEYS": f"alice:{ALICE}", "HTTP_PORT": str(port), "LIMIT_KEY_OPEN_JOBS": str(JOBS)}
    client = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {ALICE}"},
        timeout=30,
    )
    body = {"prompt": "a house", "width": 1024, "height": 1024, "count": 2}
    async with Sandbox() as sandbox, client:
        async with bot_process(sandbox, tmp_path, "painter", **door) as bot:
            await logged(bot, "online as")
            asked = [client.post(f"{GENERATE}?async=true", json=body) for _ in range(JOBS)]
            answers = await asyncio.gather(*asked)
            bot.kill()
            await bot.wait()
        assert {answer.status_code for answer in answers} == {202}
        async with bot_process(sandbox, tmp_path, "painter", **door) as bot:
            await logged(bot, "online as")
            reading = asyncio.create_task(bot.stderr.read())
            for answer in answers:
                async with client.stream("GET", answer.json()["events_url"]) as stream:
                    *_, (name, job) = [event async for event in events_of(stream)]
                assert (name, job["state"], len(job["images"])) == ("done", "generated", 2)
                for image in job["images"]:
                    assert (await client.get(image["url"])).status_code == 200
            bot.terminate()
            log = (await reading).decode()
            assert await bot.wait() == 0
    assert ALICE not in log


@pytest.mark.slow
async def test_a_port_in_use_ends_the_start(tmp_path):
    async with Sandbox() as sandbox:
        taken = sandbox.api_url.split(":")[2].split("/")[0]
        async with bot_process(sandbox, tmp_path, API_KEYS="none", HTTP_PORT=taken) as bot:
            _, errors = await bot.communicate()
    assert bot.returncode == 78
    (sentence,) = errors.decode().strip().splitlines()[-1:]
    assert sentence.startswith(f"The HTTP API cannot listen at 127.0.0.1:{taken}")
    assert "Traceback" not in errors.decode()
