"""Who may call: keys, links, pages from elsewhere; and that no key is kept or logged."""

from __future__ import annotations

import gc
import itertools
import logging
import time

import pytest

from bot.config.api_keys import Keys, user_id_of
from bot.config.settings import load_settings
from bot.errors import ConfigError
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB, GENERATE, OPENAI, TWO_KEYS, opened


def test_a_name_is_a_user_that_discord_cannot_have():
    ids = {user_id_of(f"name{n}") for n in range(1000)}
    assert len(ids) == 1000
    # Discord's ids count milliseconds since 2015 above bit 22.
    assert max(ids) >> 22 < 5 * 60 * 1000
    assert min(ids) > 0
    assert user_id_of("alice") == 576919966624  # stable: limits and jobs hang on it


def test_only_hashes_are_kept():
    keys = Keys.parse(TWO_KEYS)
    assert keys.names == ["alice", "bob"]
    assert keys.find(f"bearer {BOB}").name == "bob"
    settings = load_settings(api_keys=TWO_KEYS, _env_file=None)
    assert ALICE not in repr((keys, keys.find(f"Bearer {ALICE}"), settings))
    held = [o for root in (keys, settings) for o in gc.get_referents(root)]
    held += [gc.get_referents(o) for o in held]
    assert ALICE not in str(held)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sesame-open-sesame", "name:key"),
        ("alice:short", "16"),
        (f"alice:{ALICE},alice:{BOB}", "another"),
        (f"alice:{ALICE},bob:{ALICE}", "another"),
        (f"bad/name:{ALICE}", "name:key"),
        (",", "name:key"),
    ],
)
def test_a_wrong_list_is_a_sentence_without_the_keys(monkeypatch, text, words):
    with pytest.raises(ConfigError, match="API_KEYS") as caught:
        load_settings(api_keys=text, _env_file=None)
    assert words in str(caught.value)
    assert not any(part in str(caught.value) for part in ("sesame", "short", ALICE, BOB))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_without_keys_only_this_machine(host):
    with pytest.raises(ConfigError, match="HTTP_HOST"):
        load_settings(api_keys="none", http_host=host, _env_file=None)
    load_settings(api_keys=TWO_KEYS, http_host=host, _env_file=None)


async def test_wrong_keys(sandbox, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        wrong = (None, "", "Bearer", f"Basic {ALICE}", f"Bearer {ALICE}x", ALICE, "Bearer \xff")
        paths = (GENERATE, OPENAI, "/api/v1/jobs/x", "/metrics", "/nowhere")
        for path, value in zip(itertools.cycle(paths), wrong, strict=False):
            headers = {} if value is None else {"Authorization": value.encode("latin-1")}
            method = "POST" if path in {GENERATE, OPENAI} else "GET"
            answer = await client.request(method, path, headers=headers, content=b"{" * 10)
            assert answer.status_code == 401, (value, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.post(OPENAI)).json()["error"]["code"] == "invalid_api_key"
        assert await api.stage.jobs_made() == 0
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        right = {"Authorization": f"bearer  {ALICE}"}
        done = await client.post(GENERATE, json={"prompt": "a house"}, headers=right)
        assert done.status_code == 200
        job = await api.stage.queue.job(done.headers["X-Job-Id"])
        assert job.user_id == user_id_of("alice")
    assert ALICE not in caplog.text
    assert "alice" in caplog.text


async def test_a_fault_that_nobody_foresaw_tells_the_log_neither_key_nor_prompt(
    sandbox, tmp_path, caplog, monkeypatch
):
    from bot.logs import LineFormatter

    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:

        async def broken(request, *_args, **_values):
            raise RuntimeError(request.prompt)

        monkeypatch.setattr(api.stage.queue, "submit", broken)
        caplog.handler.setFormatter(LineFormatter())
        answer = await client.post(GENERATE, json={"prompt": "a very secret house"})
        theirs = await client.post(OPENAI, json={"prompt": "a very secret house"})
    assert f"in the request {answer.headers['X-Request-Id']}" in caplog.text
    assert (answer.status_code, theirs.status_code) == (500, 500)
    assert answer.json()["detail"].split()[-1].rstrip(".") in caplog.text
    assert "very secret" not in caplog.text + answer.text + theirs.text
    assert ALICE not in caplog.text
    assert theirs.json()["error"]["type"] == "server_error"


@pytest.mark.slow
async def test_links_open_without_the_key_for_an_hour(sandbox, tmp_path, monkeypatch):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS) as api,
        api.client(ALICE) as client,
        api.client() as anyone,
    ):
        answer = await client.post(OPENAI, json={"prompt": "a house", "n": 2})
        first, second = (picture["url"] for picture in answer.json()["data"])
        assert first.startswith(f"{api.url}/api/v1/images/")
        assert (await anyone.get(first)).headers["Content-Type"] == "image/png"
        signature = first.rpartition("signature=")[2]
        for changed in (
            first.replace("/0.png", "/1.png"),
            first.replace("expires=1", "expires=2"),
            first.replace(signature, "0" * 64),
            first.replace(signature, "é"),
            second.partition("&")[0],
        ):
            assert (await anyone.get(changed)).status_code in {401, 403}, changed
        assert (await anyone.post(first)).status_code == 403
        now = time.time()
        # Past its hour; and made while the clock was a day ahead.
        for wrong in (now + 3601, now - 86_400):
            monkeypatch.setattr("bot.http.guard.time.time", lambda wrong=wrong: wrong)
            assert (await anyone.get(first)).status_code == 403


PAGES = [
    ({"Host": "evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://[bad"}, 403),
    ({"Host": "localhost:1"}, 200),
    ({"Host": "[::1]:1", "Origin": "http://localhost:3000"}, 200),
]


@pytest.mark.slow
async def test_without_keys_no_other_page_gets_in(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        for headers, status in PAGES:
            assert (await client.get("/healthz", headers=headers)).status_code == status, headers


@pytest.mark.slow
async def test_a_key_has_so_many_requests_open_at_once(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("bot.http.guard.AT_ONCE", 2)
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine) as api,
        api.client(ALICE) as client,
        api.client(BOB) as other,
    ):
        job = (await client.post(f"{GENERATE}?async=true", json={"prompt": "a house"})).json()
        async with (
            client.stream("GET", job["events_url"]) as first,
            client.stream("GET", job["events_url"]) as second,
        ):
            assert (first.status_code, second.status_code) == (200, 200)
            refused = await client.get(job["status_url"])
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert (await other.get("/v1/models")).status_code == 200
            engine.release.set()
            for stream in (first, second):
                assert "event: done" in (await stream.aread()).decode()
        assert (await client.get(job["status_url"])).status_code == 200
