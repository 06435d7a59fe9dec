"""Keys with limits of their own, requests that wait for room, and when a refused one may come back."""

from __future__ import annotations

import asyncio

import pytest

from bot.config.key_limits import key_limits
from bot.config.settings import load_settings
from bot.errors import ConfigError
from bot.http import lines
from bot.jobs.standing import Standing
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB, GENERATE, OPENAI, TWO_KEYS, opened, raw_post
from tests.wire.kit import soon

LATER = f"{GENERATE}?async=true"
HOUSE = {"prompt": "a house"}


def test_limits_are_read_by_the_names_of_keys():
    assert key_limits("a:jobs=8,images=50 b:seconds=0.5") == {
        "a": {"jobs": 8, "images": 50},
        "b": {"seconds": 0.5},
    }
    assert load_settings(_env_file=None).api_key_limits == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alice", "name:limit=number"),
        ("alice:jobs", "name:limit=number"),
        ("alice:jobs=-1", "name:limit=number"),
        ("alice:pictures=1", "jobs, images, seconds"),
        ("alice:jobs=1.5", "whole numbers"),
        ("alice:jobs=1 alice:jobs=2", "another one has too"),
        ("carol:jobs=1", "names carol"),
    ],
)
def test_wrong_limits_are_a_sentence(text, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(api_key_limits=text, api_keys=TWO_KEYS, _env_file=None)
    assert words in str(caught.value)
    assert "API_KEY_LIMITS" in str(caught.value)


async def test_a_keys_own_limits_count_and_without_keys_the_queue_alone(sandbox, tmp_path):
    one = {"limit_key_open_jobs": 1, "limit_key_images_per_day": 1}
    own = {"api_key_limits": "alice:jobs=3,images=0"}
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path / "keys", TWO_KEYS, engine, **one, **own) as api,
        api.client(ALICE) as alice,
        api.client(BOB) as bob,
    ):
        for client, allowed in ((alice, 3), (bob, 1)):
            asked = [(await client.post(LATER, json=HOUSE)).status_code for _ in range(allowed + 1)]
            assert asked == [202] * allowed + [429]
        engine.release.set()
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path / "none", "none", engine, limit_queue_size=4, **one) as api,
        api.client() as client,
    ):
        await client.post(LATER, json=HOUSE)
        await soon(engine.holding.wait())
        asked = [(await client.post(LATER, json=HOUSE)).status_code for _ in range(5)]
        assert asked == [202] * 4 + [503]
        engine.release.set()


@pytest.fixture
def entered(monkeypatch):
    """Set once a request waits in a line; `count` says how many have."""
    wait, found = lines._came, asyncio.Event()

    async def noted(*args):
        found.set()
        return await wait(*args)

    monkeypatch.setattr(lines, "_came", noted)
    return found


async def test_who_waits_for_a_picture_waits_for_room_too(sandbox, tmp_path, entered):
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, limit_key_open_jobs=1) as api,
        api.client(ALICE) as client,
    ):
        first = (await client.post(LATER, json=HOUSE)).json()["id"]
        await soon(engine.holding.wait())
        asked = []
        for number in range(3):
            entered.clear()
            body = {"prompt": f"house {number}", "seed": number}
            asked.append(asyncio.create_task(client.post(GENERATE, json=body)))
            await soon(entered.wait())
        # Who does not wait is told at once.
        assert (await client.post(LATER, json=HOUSE)).status_code == 429
        assert await api.stage.jobs_made() == 1
        engine.release.set()
        answers = [await soon(one) for one in asked]
        assert [answer.status_code for answer in answers] == [200] * 3
        # One at a time, in the order in which they came.
        assert [answer.json()["seed"] for answer in answers] == [0, 1, 2]
        assert [one.seeds[0] for one in engine.requests[1:]] == [0, 1, 2]
        assert first == engine.requests[0].job_id


async def test_the_full_queue_and_the_end_of_the_wait(sandbox, tmp_path, entered):
    engine = ScriptedEngine(Script(hold_at=1))
    settings = {"limit_queue_size": 1, "http_wait_seconds": 0.3}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **settings) as api,
        api.client(ALICE) as alice,
        api.client(BOB) as bob,
    ):
        await alice.post(LATER, json=HOUSE)
        await soon(engine.holding.wait())
        await alice.post(LATER, json=HOUSE)
        refused = await bob.post(OPENAI, json=HOUSE)
        assert entered.is_set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert await api.stage.jobs_made() == 2
        engine.release.set()


async def test_a_client_that_leaves_the_line_gets_no_job(sandbox, tmp_path, entered, monkeypatch):
    left, last_try = asyncio.Event(), lines._last_try

    async def noted(*args):
        left.set()
        return await last_try(*args)

    monkeypatch.setattr(lines, "_last_try", noted)
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path, "none", engine, limit_queue_size=1) as api,
        api.client() as client,
    ):
        await client.post(LATER, json=HOUSE)
        await soon(engine.holding.wait())
        await client.post(LATER, json=HOUSE)
        _reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(raw_post(api, GENERATE, HOUSE))
        await soon(entered.wait())
        writer.transport.abort()
        await soon(left.wait())
        engine.release.set()
        # Whoever comes after it is not held up by it.
        assert (await client.post(GENERATE, json=HOUSE)).status_code == 200
        assert await api.stage.jobs_made() == 3


async def test_a_refusal_says_when_by_the_forecast(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_FORECAST_S", 30)  # however busy the machine is
    engine = ScriptedEngine(Script(), Script(hold_at=1))
    settings = {"limit_key_open_jobs": 2, "limit_queue_size": 2}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **settings) as api,
        api.client(ALICE) as alice,
        api.client(BOB) as bob,
    ):
        # What is measured of the first picture (3 s) is what the forecast goes by.
        await alice.post(GENERATE, json=HOUSE)
        for _ in range(2):
            await alice.post(LATER, json=HOUSE)
        await soon(engine.holding.wait())
        full = await alice.post(LATER, json=HOUSE)
        assert (full.status_code, int(full.headers["Retry-After"]) <= 3) == (429, True)
        await bob.post(LATER, json=HOUSE)
        busy = await bob.post(LATER, json=HOUSE)
        assert (busy.status_code, int(busy.headers["Retry-After"]) <= 3) == (503, True)

        async def silent(self):
            await asyncio.Event().wait()

        # A forecast that is not there in time.
        monkeypatch.setattr(lines, "_FORECAST_S", 0.01)
        monkeypatch.setattr(Standing, "now", silent)
        assert (await bob.post(LATER, json=HOUSE)).headers["Retry-After"] == "30"
        engine.release.set()
