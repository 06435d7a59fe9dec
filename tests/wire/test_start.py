"""What stops the bot from starting, in one sentence each, and what ends it later."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bot.app.app import App
from bot.client import login
from bot.config.settings import load_settings
from bot.errors import BotError, StartupError
from tests.engines import ScriptedEngine
from tests.wire.kit import soon, staged

MENDING = "private files"


async def test_a_refused_token(sandbox, tmp_path):
    with pytest.raises(StartupError, match="refused DISCORD_TOKEN"):
        async with staged(sandbox, tmp_path, discord_token="wrong"):
            pass


@pytest.mark.parametrize("status", [403, 418])
async def test_a_refused_login(sandbox, tmp_path, status):
    sandbox.faults.respond("GET", "/users/@me", status)
    with pytest.raises(BotError, match=str(status)) as caught:
        async with staged(sandbox, tmp_path):
            pass
    assert not isinstance(caught.value, StartupError)


@pytest.mark.parametrize("path", ["/users/@me", "/oauth2/applications/@me"])
async def test_a_network_that_is_down_is_waited_for(sandbox, tmp_path, monkeypatch, path):
    monkeypatch.setattr(login, "_FIRST_RETRY_S", 0.001)
    down = sandbox.faults.reset("GET", path, times=3)
    async with staged(sandbox, tmp_path) as stage:
        assert down.hits == 3
        assert (await stage.outcome(await stage.imagine("alice", "a house"))).files


@pytest.mark.parametrize("via", [False, True], ids=["proxy", "discord"])
async def test_a_limited_login_is_waited_for(sandbox, tmp_path, monkeypatch, via):
    """Another start would only be one more invalid request."""
    monkeypatch.setattr(login, "_FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(login, "LONGEST_ASKED_S", 0.001)
    limited = sandbox.faults.rate_limit("GET", "/users/@me", 1000, via=via, times=2)
    async with staged(sandbox, tmp_path) as stage:
        assert limited.hits == 2
        assert (await stage.outcome(await stage.imagine("alice", "a house"))).files


async def test_an_outage_while_the_commands_are_sent_is_waited_for(
    sandbox, tmp_path, monkeypatch, hurry
):
    monkeypatch.setattr(login, "_FIRST_RETRY_S", 0.001)
    down = sandbox.faults.respond("PUT", "/applications/*/commands", 503)
    async with staged(sandbox, tmp_path) as stage:
        assert down.hits == 1
        assert (await stage.outcome(await stage.imagine("alice", "a house"))).files


async def test_a_stop_does_not_wait_for_the_network(sandbox, tmp_path):
    down = sandbox.faults.reset("GET", "/users/@me", times=None)
    values = {"image_model_name": "tiny", "data_dir": tmp_path, "discord_token": None}
    settings = load_settings(discord_api_url=sandbox.api_url, _env_file=None, **values)
    app = App(settings, engines=[ScriptedEngine()])
    run = asyncio.create_task(app.run())
    await soon(down.reached.wait())
    app.stop()
    await soon(run)


async def test_nothing_at_the_address(sandbox, tmp_path):
    sandbox.faults.reset("GET", "/gateway/bot", times=None)
    with pytest.raises(StartupError, match="DISCORD_API_URL"):
        async with staged(sandbox, tmp_path):
            pass


async def test_a_token_that_is_revoked_while_running(sandbox, tmp_path):
    with pytest.raises(StartupError, match="refused DISCORD_TOKEN at the gateway"):
        async with staged(sandbox, tmp_path) as stage:
            sandbox.gateway.close(4004)
            await soon(stage.ended())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_the_start_takes_old_files_from_other_users(sandbox, tmp_path, caplog):
    day = tmp_path / "data" / "images" / "2026" / "01" / "02"
    day.mkdir(parents=True)
    picture = day / "a_0.png"
    picture.write_bytes(b"old")
    loose = [picture, *list(picture.parents)[:5]]
    for path in loose:
        path.chmod(0o755 if path.is_dir() else 0o644)
    caplog.set_level("INFO")
    async with staged(sandbox, tmp_path / "data"):
        mending = [task for task in asyncio.all_tasks() if task.get_name() == MENDING]
        await soon(asyncio.gather(*mending))
    assert not [path for path in loose if path.stat().st_mode & 0o077]
    assert "no longer open to other users" in caplog.text


async def test_an_event_that_the_end_cuts_off_is_no_error(sandbox, tmp_path, caplog, monkeypatch):
    """Whoever presses Ctrl+C as the bot comes online reads no traceback."""
    caplog.set_level("DEBUG", "bot")
    closed = asyncio.Event()
    async with staged(sandbox, tmp_path) as stage:
        standing = stage.queue.standing
        now = standing.now

        async def late():
            await closed.wait()
            return await now()

        monkeypatch.setattr(standing, "now", late)
        before = asyncio.all_tasks()
        stage.app.client.dispatch("ready")
        (event,) = asyncio.all_tasks() - before
    closed.set()
    await event
    assert "on_ready was not finished" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_coming_online_after_the_end_is_no_error(sandbox, tmp_path, caplog):
    """discord.py waits for servers that are announced late, and then says that it is ready."""
    async with staged(sandbox, tmp_path) as stage:
        client = stage.app.client
    client.dispatch("ready")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
