"""What `python -m bot doctor` says of Discord and the model hub, asked over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from bot.cli.main import main
from bot.client.login import INVITE_PERMISSIONS
from bot.config.settings import Settings
from bot.doctor import account, hub
from bot.sandbox.server import Sandbox
from tests.process.doctor_kit import StandIn

TOKEN = "made-up-token-of-a-bot"
NAME = "Qwen/Qwen-Image"
MODEL = f"/api/models/{NAME}"


@pytest.fixture
def server():
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in (*Settings.model_fields, "hf_token", "hf_token_path", "hf_hub_offline"):
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def discord(server, monkeypatch):
    monkeypatch.setenv("DISCORD_API_URL", f"{server.url}/api/v10")
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    held = str(INVITE_PERMISSIONS.value)
    for path, body in {
        "/users/@me": {"id": "1", "username": "painter"},
        "/applications/@me": {"id": "99", "flags": 0},
        "/users/@me/guilds": [{"id": "5", "name": "general", "permissions": held}],
        "/gateway/bot": {"session_start_limit": {"remaining": 900, "reset_after": 0}},
    }.items():
        server.answers[f"/api/v10{path}"] = (200, body)
    return server


@pytest.fixture
def look(capsys):
    def look(check: str) -> dict[str, tuple[str, str, str]]:
        main(["doctor", "--json", "--only", check])
        text = capsys.readouterr().out
        assert TOKEN not in text
        return {i["check"]: (i["level"], i["text"], i["step"]) for i in json.loads(text)}

    return look


def test_an_account_as_it_should_be(discord, look):
    found = look("Discord")
    assert {level for level, _, _ in found.values()} == {"ok"}
    assert "client_id=99" in found["invitation"][1]
    assert f"permissions={INVITE_PERMISSIONS.value}" in found["invitation"][1]
    assert "painter" in found["bot token"][1]
    assert set(discord.tokens) == {f"Bot {TOKEN}"}


async def test_the_sandbox_is_asked_the_same(monkeypatch):
    async with Sandbox() as sandbox:
        settings = Settings(discord_api_url=sandbox.api_url)
        found = await asyncio.to_thread(lambda: list(account.account(settings)))
    assert {f.check for f in found} >= {"Discord", "bot token", "servers", "clock", "gateway"}
    assert {str(f.level) for f in found} == {"ok"}, found


def test_no_token(look, capsys):
    assert look("bot token")["bot token"][0] == "error"
    assert look("Discord")["Discord"][:2] == (
        "warning",
        "not asked: there is no bot token to ask with",
    )
    # It is said without the network, too.
    assert main(["doctor", "--quick"]) == 1
    assert "DISCORD_TOKEN is missing" in capsys.readouterr().out


def test_a_token_that_discord_refuses(discord, look):
    discord.answers["/api/v10/users/@me"] = (401, {"message": "401: Unauthorized"})
    level, _, step = look("Discord")["bot token"]
    assert (level, "Reset Token" in step) == ("error", True)
    assert len(discord.tokens) == 1  # Discord bans addresses that go on


@pytest.mark.parametrize(
    ("ahead_s", "level", "word"),
    [(3600, "error", "behind"), (-3600, "error", "ahead of"), (20, "warning", "behind")],
)
def test_a_clock_that_is_wrong(discord, look, ahead_s, level, word):
    discord.ahead_s = ahead_s
    found = look("Discord")["clock"]
    assert found[0] == level
    assert word in found[1]
    assert "timedatectl" in found[2]


def test_rights_that_the_bot_lacks(discord, look):
    held = INVITE_PERMISSIONS.value & ~(1 << 15)
    guild = {"id": "6", "name": "closed", "permissions": str(held)}
    discord.answers["/api/v10/users/@me/guilds"] = (200, [guild])
    level, text, step = look("Discord")["servers"]
    assert level == "warning"
    assert "'closed' the bot's role lacks: attach files" in text
    assert "https://discord.com/" in step
    guild["permissions"] = "8"  # an administrator has every right
    assert look("Discord")["servers"][0] == "ok"
    discord.answers["/api/v10/users/@me/guilds"] = (200, [])
    assert look("Discord")["servers"][:2] == ("warning", "the bot is in none")


def test_starts_that_run_out(discord, look):
    limit = {"remaining": 3, "reset_after": 7_200_000}
    discord.answers["/api/v10/gateway/bot"] = (200, {"session_start_limit": limit})
    level, text, _ = look("Discord")["gateway"]
    assert (level, "3 starts left for 2.0 h" in text) == ("warning", True)


def test_discord_has_a_bad_day(discord, look, monkeypatch):
    for path in ("/applications/@me", "/users/@me/guilds", "/gateway/bot"):
        discord.answers[f"/api/v10{path}"] = (503, {})
    found = look("Discord")
    assert found["bot token"][0] == "ok"
    assert found["application"][0] == "warning"
    discord.answers["/api/v10/users/@me"] = (200, b"<html>")
    assert look("Discord")["Discord"][0] == "error"
    monkeypatch.setattr(account, "_PATIENCE_S", 0.2)
    discord.silent.set()
    level, text, _ = look("Discord")["Discord"]
    assert (level, "cannot be reached" in text) == ("error", True)


def test_nobody_answers(look, monkeypatch):
    server = StandIn()
    server.close()
    monkeypatch.setenv("DISCORD_API_URL", server.url)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert look("Discord")["Discord"][0] == "error"
    assert look("model hub")["model hub"][0] == "warning"


def test_modelscope_is_asked_where_it_is_the_source(server, look, monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_SOURCE", "modelscope")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert look("model hub")["model hub"][:2] == (
        "warning",
        f"{server.url} answered 404 for {NAME}",
    )
    server.answers[f"/api/v1/models/{NAME}"] = (200, {})
    assert look("model hub")["model hub"][0] == "ok"
    assert server.tokens == [None, None]


def test_the_hub_and_its_login(server, look, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.answers[MODEL] = (200, {})
    level, text, _ = look("model hub")["model hub"]
    assert (level, "not logged in" in text) == ("ok", True)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    server.answers["/api/whoami-v2"] = (200, {"name": "alice"})
    level, text, _ = look("model hub")["model hub"]
    assert (level, "logged in as alice" in text) == ("ok", True)
    assert server.tokens == [None, f"Bearer {TOKEN}"]
    server.answers["/api/whoami-v2"] = (401, {})
    level, _, step = look("model hub")["model hub"]
    assert (level, "hf auth login" in step) == ("warning", True)
    monkeypatch.setattr(hub, "_PATIENCE_S", 0.2)
    server.silent.set()
    assert "cannot be reached" in look("model hub")["model hub"][1]
