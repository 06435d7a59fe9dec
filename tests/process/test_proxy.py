"""A bot whose only way out is a proxy: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Iterator

import aiohttp.connector
import pytest
from yarl import URL

from bot.client.attachments import Fetcher
from bot.client.bot import ImageBot
from bot.client.login import discord_proxy
from bot.config.libraries import pass_on
from bot.config.proxy import proxy_for, proxy_secrets
from bot.config.settings import Settings
from bot.delivery.breaker import CircuitBreaker
from bot.engine.files.download import download
from bot.errors import EngineError, InvalidRequest
from bot.logs import Cleaner
from bot.sandbox.server import Sandbox
from tests.process.kit import HERE, PATIENCE_S, environment, logged
from tests.process.proxy_kit import LOGIN, PASSWORD, USER, ConnectProxy, certificate
from tests.wire.kit import is_outcome

API, CDN, GATEWAY = "discord.com", "cdn.discordapp.com", "gateway.discord.gg"
# What goes to Discord's own hosts has a token's form.
TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4" + ".G1AbCd." + "x" * 38
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch, tmp_path):
    for name in (*NAMES, *Settings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Sandbox, "token", TOKEN)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """A certificate of Discord's hosts that this process trusts."""
    pem = certificate(tmp_path, API, CDN, GATEWAY)
    trusting = ssl.create_default_context(cafile=str(pem))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    return pem


@pytest.fixture
def proxy(monkeypatch) -> Iterator[ConnectProxy]:
    """A proxy that knows no host behind it."""
    running = ConnectProxy()
    monkeypatch.setenv("HTTPS_PROXY", running.url_with_login)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("values", "url", "found"),
    [
        ({"https_proxy": "http://a:1"}, "https://discord.com/api", "http://a:1 (https_proxy)"),
        ({"HTTPS_PROXY": "http://a:1"}, "wss://gateway.discord.gg/", "http://a:1 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "http://a:1"}, "http://mirror.cn/x", None),
        ({"HTTP_PROXY": "b:2"}, "http://mirror.cn/x", "http://b:2 (HTTP_PROXY)"),
        ({"HTTP_PROXY": "b:2"}, "https://discord.com", None),
        (
            {"ALL_PROXY": "https://u:p@[::2]:3"},
            "https://discord.com",
            "https://[::2]:3 (ALL_PROXY)",
        ),
        (
            {"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "socks5://a:2"},
            "https://discord.com",
            "http://a:1 (HTTPS_PROXY)",
        ),
        ({"HTTPS_PROXY": "a:1", "NO_PROXY": ".discord.com,x"}, "https://discord.com/api", None),
        ({"HTTPS_PROXY": "a:1", "NO_PROXY": "*"}, "https://discord.com/api", None),
        ({"HTTPS_PROXY": "a:1"}, "https://127.0.0.1:8765/api", None),
        ({"HTTP_PROXY": "a:1", "ALL_PROXY": "a:1"}, "http://localhost:1/api", None),
        ({"HTTP_PROXY": "a:1"}, "http://[::1]:1/api", None),
    ],
)
def test_which_proxy_an_address_takes(monkeypatch, values, url, found):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    taken = proxy_for(url)
    assert (taken and str(taken)) == found


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks5://u:secret@127.0.0.1:1080", "SOCKS"),
        ("https_proxy", "socks5h://127.0.0.1:1080", "HTTP port"),
        ("HTTPS_PROXY", "ftp://a:1", "no address"),
        ("HTTPS_PROXY", "http://a:port", "no address"),
        ("HTTPS_PROXY", "http://:3128", "no address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch, capsys, name, value, words):
    from bot.cli.main import main

    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    monkeypatch.setenv("LOG_DIR", "-")
    monkeypatch.setenv(name, value)
    assert main(["run"]) == 78
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said
    assert name in said
    assert "secret" not in said
    main(["doctor", "--json", "--only", "Discord"])
    found = {i["check"]: i for i in json.loads(capsys.readouterr().out)}
    assert words in found["Discord"]["text"]


def test_libraries_get_what_is_in_env_and_keep_this_machine_out(tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(
        b"\xef\xbb\xbfHTTPS_PROXY=http://a:1\nALL_PROXY=socks5://a:2\nhttp_proxy=http://a:3\n"
        b"NO_PROXY=mirror.cn\n"
    )
    values = {"HTTP_PROXY": "http://mine:4"}
    pass_on(file, values)
    assert values == {
        "HTTP_PROXY": "http://mine:4",  # what is set there counts, in either spelling
        "HTTPS_PROXY": "http://a:1",
        "NO_PROXY": "mirror.cn,localhost,127.0.0.1,::1",
    }
    values = {"no_proxy": "*", "ALL_PROXY": "socks5://a:2"}
    pass_on(tmp_path / "none", values)
    assert values == {"no_proxy": "*", "ALL_PROXY": "socks5://a:2"}


def test_a_proxys_password_is_secret_in_every_form(proxy):
    found = proxy_secrets()
    for form in (f"{USER}:p%40ss%3Aword%2F1@", PASSWORD, LOGIN.removeprefix("Basic ")):
        assert form in found
    assert proxy.url not in "".join(found)


async def test_a_client_asks_and_connects_through_it(proxy):
    client = ImageBot(CircuitBreaker(), proxy=discord_proxy(Settings(_env_file=None)))
    async with client:
        # It refuses: what it was asked is what is looked at.
        with pytest.raises(aiohttp.ClientHttpProxyError) as caught:
            await client.login("made-up")
        with pytest.raises(aiohttp.ClientHttpProxyError):
            await client.http.ws_connect(f"wss://{GATEWAY}/?v=10")
    assert proxy.asked == [f"CONNECT {API}:443", f"CONNECT {GATEWAY}:443"]
    assert set(proxy.logins) == {LOGIN}
    clean = Cleaner(proxy_secrets(), prompts=False)
    for text in (str(caught.value), repr(caught.value), str(client.http.proxy)):
        assert PASSWORD not in clean(text)
        assert "p%40ss" not in clean(text)


async def test_attachments_come_through_it(trusted, monkeypatch):
    async with Sandbox() as sandbox:
        proxy = ConnectProxy(trusted, {CDN: URL(sandbox.url).port})
        monkeypatch.setenv("HTTPS_PROXY", proxy.url_with_login)
        try:
            with pytest.raises(InvalidRequest, match="not a picture"):  # The sandbox's own page.
                await Fetcher().fetch_url(f"https://{CDN}/", "a.png")
        finally:
            proxy.close()
    assert proxy.asked == [f"CONNECT {CDN}:443"]


async def test_the_sandbox_is_never_asked_through_it(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    async with Sandbox() as sandbox:
        settings = Settings(discord_api_url=sandbox.api_url, _env_file=None)
        assert discord_proxy(settings) is None
        with pytest.raises(InvalidRequest, match="not a picture"):
            await Fetcher(sandbox.api_url).fetch_url(f"{sandbox.url}/", "a.png")
    assert proxy.asked == []


async def test_the_doctor_takes_the_same_way(trusted, monkeypatch, capsys):
    from bot.cli.main import main

    async with Sandbox() as sandbox:
        proxy = ConnectProxy(trusted, {API: URL(sandbox.url).port})
        monkeypatch.setenv("DISCORD_TOKEN", sandbox.token)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url_with_login)

        async def look(check: str) -> tuple[str, str]:
            await asyncio.to_thread(main, ["doctor", "--json", "--only", check])
            text = capsys.readouterr().out
            assert PASSWORD not in text
            found = {i["check"]: i for i in json.loads(text)}
            return found[check]["level"], found[check]["text"]

        level, text = await look("Discord")
        assert level == "ok", text
        assert f"through the proxy {proxy.url} (HTTPS_PROXY)" in text
        level, text = await look("model hub")
        assert (level, "huggingface.co cannot be reached" in text) == ("warning", True)
        assert f"through the proxy {proxy.url} (HTTPS_PROXY)" in text
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        level, text = await look("Discord")
        assert (level, "the proxy wants another user" in text) == ("error", True)
        proxy.close()
        level, text = await look("Discord")
        assert (level, "the proxy does not answer" in text) == ("error", True)
    assert set(proxy.asked) == {f"CONNECT {API}:443", "CONNECT huggingface.co:443"}


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_models_are_downloaded_through_it(proxy, monkeypatch, tmp_path, source):
    import huggingface_hub.utils

    huggingface_hub.utils.close_session()  # It was made with another environment.
    hosts = {"huggingface": "huggingface.co", "modelscope": "www.modelscope.cn"}
    with pytest.raises(EngineError) as caught:
        download(tmp_path, "Qwen/Qwen-Image", source, lambda *_: None, patterns=("*",))
    huggingface_hub.utils.close_session()
    assert PASSWORD not in str(caught.value)
    assert set(proxy.asked) == {f"CONNECT {hosts[source]}:443"}


@pytest.mark.slow
async def test_a_bot_behind_a_proxy_draws(tmp_path):
    """The whole bot, its way out set in `.env` alone: login, commands, gateway, and the picture."""
    pem = certificate(tmp_path, API, CDN, GATEWAY)
    async with Sandbox() as sandbox:
        proxy = ConnectProxy(pem, dict.fromkeys((API, GATEWAY), URL(sandbox.url).port))
        (tmp_path / ".env").write_text(
            f"DISCORD_TOKEN={sandbox.token}\nHTTPS_PROXY={proxy.url_with_login}\n"
        )
        values = environment(sandbox, tmp_path) | {"SSL_CERT_FILE": str(pem)}
        del values["DISCORD_API_URL"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, HERE / "run_with.py", "painter",
            env=values, cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said = await logged(process, "through the proxy")
            assert f"{proxy.url} (HTTPS_PROXY)" in said
            assert "https://discord.com/" in await logged(process, "invite the bot with")
            await sandbox.ready(PATIENCE_S)
            invocation = await sandbox.user("bob").slash("art", "imagine", prompt="a moon")
            message = await invocation.until(is_outcome, PATIENCE_S)
            assert message.files
        finally:
            if process.returncode is None:
                process.terminate()
            _, errors = await process.communicate()
            proxy.close()
    assert PASSWORD not in errors.decode()
    assert sandbox.token not in errors.decode()
    assert set(proxy.asked) == {f"CONNECT {API}:443", f"CONNECT {GATEWAY}:443"}
    assert set(proxy.logins) == {LOGIN}
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".env"]
    assert not [p for p in written if PASSWORD.encode() in p.read_bytes()]
    assert os.environ.get("HTTPS_PROXY") is None
