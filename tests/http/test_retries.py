"""Retries that OpenAI's clients make by themselves: each joins the job of its first request."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bot.http.retries import Retries
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB, OPENAI, TWO_KEYS, opened
from tests.wire.kit import soon

HOUSE = {"prompt": "a house", "response_format": "b64_json"}


def sent(count: int) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


@pytest.fixture
def noticed(monkeypatch):
    """Set when the door has noticed that a client went away."""
    over, found = Retries.over, asyncio.Event()

    def noted(self, job_id, *, left):
        over(self, job_id, left=left)
        if left:
            found.set()

    monkeypatch.setattr(Retries, "over", noted)
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_a_retry_joins_its_first_job(sandbox, tmp_path, noticed, stream):
    engine = ScriptedEngine(Script(hold_at=1))
    body = HOUSE | {"stream": stream}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine) as api,
        api.client(ALICE) as client,
        api.client(BOB) as other,
    ):
        first = asyncio.create_task(client.post(OPENAI, json=body, headers=sent(0)))
        await soon(engine.holding.wait())
        # Another client that asks for the same at the same time, and waits on.
        with api.stage.queue.feed.subscribe() as updates:
            twin = asyncio.create_task(client.post(OPENAI, json=body, headers=sent(0)))
            await soon(anext(one async for one in updates if one.kind == "queued"))
        first.cancel()
        await soon(noticed.wait())
        retry = asyncio.create_task(client.post(OPENAI, json=body, headers=sent(1)))
        engine.release.set()
        again, second = await soon(retry), await soon(twin)
        assert again.headers["X-Job-Id"] == engine.requests[0].job_id
        assert second.headers["X-Job-Id"] == engine.requests[1].job_id
        assert await api.stage.jobs_made() == 2
        # What was answered is not joined; nor is another key's, or another request.
        for one, changed in ((client, {}), (other, {}), (client, {"seed": 3})):
            answer = await one.post(OPENAI, json=body | changed, headers=sent(1))
            assert answer.status_code == 200
        assert await api.stage.jobs_made() == 5


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("bot.http.retries._MOST", 2)
    retries = Retries()
    for number in range(3):
        retries.note(f"asked {number}", f"job {number}")
    assert [retries.join(f"asked {number}") for number in range(3)] == [None, "job 1", "job 2"]
    retries.over("job 1", left=False)
    assert retries.join("asked 1") is None
    # The oldest waits, the younger one's client is gone.
    retries.note("asked 2", "job 3")
    retries.over("job 3", left=True)
    assert [retries.join("asked 2") for _ in range(2)] == ["job 3", "job 2"]


CLIENT = """
import sys
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=5, timeout=1.0)
answer = client.images.generate(prompt="a house", model="gpt-image-1")
print(len(answer.data[0].b64_json) > 100)
"""


@pytest.mark.slow
async def test_openais_own_client_times_out_and_draws_once(sandbox, tmp_path, noticed):
    """Real Python client, in a process of its own."""
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, TWO_KEYS, engine) as api:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, f"{api.url}/v1", ALICE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await soon(noticed.wait())
        engine.release.set()
        said, errors = await process.communicate()
        assert (process.returncode, said) == (0, b"True\n"), errors.decode()
        assert await api.stage.jobs_made() == 1
