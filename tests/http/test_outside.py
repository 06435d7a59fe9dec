"""The API as it is seen from elsewhere: by pages of other origins, and behind a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from bot.app.beside import demo_settings
from bot.config.settings import load_settings
from bot.errors import ConfigError
from tests.http.kit import ALICE, GENERATE, OPENAI, TWO_KEYS, opened

PAGE = "https://app.example.org"
# What a browser sends before a page's OpenAI client may.
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}
KEY = {"Authorization": f"Bearer {ALICE}"}


def allowed(answer) -> str | None:
    return answer.headers.get("Access-Control-Allow-Origin")


async def test_a_page_of_an_allowed_origin_gets_its_pictures(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, http_origins=f"{PAGE}/, tauri://localhost") as api,
        api.client() as client,
    ):
        for path in (OPENAI, GENERATE, "/v1/models", "/metrics"):
            asked = await client.options(path, headers=PREFLIGHT)
            assert (asked.status_code, allowed(asked)) == (200, PAGE), path
            assert "POST" in asked.headers["Access-Control-Allow-Methods"]
            headers = asked.headers["Access-Control-Allow-Headers"]
            assert headers == PREFLIGHT["Access-Control-Request-Headers"]
            assert "Access-Control-Allow-Credentials" not in asked.headers
        body = {"prompt": "a house"}
        drawn = await client.post(OPENAI, json=body, headers={**KEY, "Origin": PAGE})
        assert (drawn.status_code, allowed(drawn)) == (200, PAGE)
        assert "X-Job-Id" in drawn.headers["Access-Control-Expose-Headers"]
        url = drawn.json()["data"][0]["url"]
        link = await client.get(url, headers={"Origin": PAGE})
        assert (link.status_code, allowed(link)) == (200, PAGE)
        # As an <img> asks: a cache must not give this answer to a script.
        plain = await client.get(url)
        assert (plain.status_code, allowed(plain)) == (200, None)
        assert "Origin" in plain.headers["Vary"]
        # A page reads its refusals, too.
        refused = await client.post(OPENAI, json=body, headers={"Origin": "tauri://localhost"})
        assert (refused.status_code, allowed(refused)) == (401, "tauri://localhost")


@pytest.mark.slow
async def test_pages_of_other_origins_get_nothing(sandbox, tmp_path):
    elsewhere = {"Origin": "https://evil.example"}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, http_origins=PAGE) as api,
        api.client() as client,
    ):
        for origin in ("https://evil.example", f"{PAGE}.evil.example", "http://app.example.org"):
            asked = await client.options(OPENAI, headers={**PREFLIGHT, "Origin": origin})
            assert (asked.status_code, allowed(asked)) == (400, None)
        # The key alone decides whether it is answered, and the browser whether the page reads it.
        drawn = await client.get("/v1/models", headers={**KEY, **elsewhere})
        assert (drawn.status_code, allowed(drawn)) == (200, None)
        # OPTIONS that is no browser's question needs a key as anything else.
        assert (await client.options(OPENAI)).status_code == 401


@pytest.mark.slow
async def test_any_origin_and_none(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path / "any", TWO_KEYS, http_origins="*") as api,
        api.client() as client,
    ):
        assert allowed(await client.options(OPENAI, headers=PREFLIGHT)) == "*"
        assert allowed(await client.get("/v1/models", headers={**KEY, "Origin": "null"})) == "*"
    async with opened(sandbox, tmp_path / "none", TWO_KEYS) as api, api.client() as client:
        asked = await client.options(OPENAI, headers=PREFLIGHT)
        assert (asked.status_code, allowed(asked)) == (401, None)
        assert allowed(await client.get("/v1/models", headers={**KEY, "Origin": PAGE})) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", set()),
        ("*", {"*"}),
        ("https://App.Example.org/ , http://localhost:3000", {PAGE, "http://localhost:3000"}),
        ("https://app.example.org:443", {PAGE}),
        ("http://[::1]:5173 chrome-extension://abc", {"http://[::1]:5173", "chrome-extension://abc"}),
    ],
)  # fmt: skip
def test_origins_are_read_as_browsers_send_them(text, read):
    assert load_settings(http_origins=text, _env_file=None).http_origins == read


@pytest.mark.parametrize(
    "text",
    [
        *("app.example.org", "null", "https://*.example.org", "https://app.example.org/page"),
        *("https://a@b.example", "https://b.example?x", "https://b.example:port", "https://"),
        *("https://bücher.example", "https://[::1", "https://b.example,oops"),
    ],
)
def test_a_wrong_origin_is_one_sentence(text):
    with pytest.raises(ConfigError, match="HTTP_ORIGINS: it must be origins such as"):
        load_settings(http_origins=text, _env_file=None)


def test_without_keys_no_page_is_let_in(sandbox_like):
    with pytest.raises(ConfigError, match="HTTP_ORIGINS"):
        load_settings(api_keys="none", http_origins=PAGE, _env_file=None)
    # The demo, whose settings are its own, starts all the same.
    settings = demo_settings(sandbox_like, None, 1)
    assert (settings.http_origins, settings.http_public_url) == (frozenset(), None)


@pytest.fixture
def sandbox_like(monkeypatch):
    class Somewhere:
        api_url = "http://127.0.0.1:1/api"

    monkeypatch.setenv("HTTP_ORIGINS", PAGE)
    monkeypatch.setenv("HTTP_PUBLIC_URL", PAGE)
    monkeypatch.delenv("API_KEYS", raising=False)
    return Somewhere()


@pytest.mark.parametrize(
    "public",
    [
        "https://Example.org/my/images/",
        pytest.param("https://example.org", marks=pytest.mark.slow),
    ],
)
async def test_links_begin_with_the_address_from_outside(sandbox, tmp_path, public):
    base = public.lower().rstrip("/")
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, http_public_url=public) as api,
        api.client(ALICE) as client,
        api.client() as anyone,
    ):

        def inside(url: str) -> str:
            # What the proxy asks here: the path without the part that is its own.
            assert url.startswith(f"{base}/api/v1/")
            return url.removeprefix(base)

        # A proxy that names neither host nor scheme, as nginx does unless it is told to.
        drawn = await client.post(OPENAI, json={"prompt": "a house", "response_format": "url"})
        url = drawn.json()["data"][0]["url"]
        assert (await anyone.get(inside(url))).headers["Content-Type"] == "image/png"
        asked = await client.post(f"{GENERATE}?async=true", json={"prompt": "a house"})
        job = asked.json()
        assert asked.headers["Location"] == job["status_url"]
        await api.stage.delivered(job["id"])
        done = (await client.get(inside(job["status_url"]))).json()
        assert (await client.get(inside(done["images"][0]["url"]))).status_code == 200
        assert (await client.get(inside(done["events_url"]))).status_code == 200
        described = (await anyone.get("/openapi.json")).json()
        assert described["servers"] == [{"url": base}]


@pytest.mark.slow
async def test_else_links_begin_with_what_the_proxy_passes_on(sandbox, tmp_path):
    https = {"X-Forwarded-Proto": "https"}
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        for host, headers in (("example.org", {}), ("example.org", https), ("a.example:84", https)):
            sent = {"Host": host, **headers}
            drawn = await client.post(OPENAI, json={"prompt": "a house"}, headers=sent)
            parts = urlsplit(drawn.json()["data"][0]["url"])
            assert (parts.netloc, parts.scheme) == (host, "https" if headers else "http")


@pytest.mark.parametrize(
    "text",
    [
        *("example.org", "ftp://example.org", "https://", "https://a:b@example.org", "https:///x"),
        *("https://example.org/?a", "https://example.org/#a", "https://exa mple.org"),
        *("https://example.org:99999", "https://example.org/bücher"),
    ],
)
def test_a_wrong_public_address_is_one_sentence(text):
    with pytest.raises(ConfigError, match="HTTP_PUBLIC_URL: it must be an address such as"):
        load_settings(http_public_url=text, _env_file=None)
