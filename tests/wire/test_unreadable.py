"""Events that discord.py cannot read: each is logged without its words and left out."""

from __future__ import annotations

import inspect

import discord.gateway
import pytest

from bot.client import gateway
from bot.sandbox.dispatch import guild_create
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import PATIENCE_S, soon, staged, text_of

SECRET = "a fish that nobody may read of"


# As Discord's reference allows: a poll whose end is null.
ENDLESS_POLL = {
    "question": {"text": SECRET},
    "answers": [{"answer_id": 1, "poll_media": {"text": SECRET}}],
    "expiry": None,
    "allow_multiselect": False,
    "layout_type": 1,
}
BROKEN = {
    "MESSAGE_CREATE": {"content": SECRET, "channel_id": SECRET},
    "INTERACTION_CREATE": {"id": SECRET, "type": 2},
    "CHANNEL_UPDATE": {"guild_id": None, "name": SECRET},
    "THREAD_CREATE": {},
}


async def goes_on(stage, caplog, *events: str) -> None:
    """Check that the bot works on over the same line, and that events were named, not quoted."""
    line = stage.sandbox.gateway
    assert (await stage.outcome(await stage.imagine("alice", "a house"))).files
    logged = [r.getMessage() for r in caplog.records if r.name == "bot.client.gateway"]
    assert len(logged) == len(events)
    for event, message in zip(events, logged, strict=True):
        assert f"a {event} cannot be read" in message
    assert SECRET not in caplog.text
    assert not stage.run.done()
    assert (line.identifies, line.resumes) == (1, 0)


async def test_events_that_cannot_be_read_are_left_out(stage, caplog):
    for event, data in BROKEN.items():
        stage.sandbox.gateway.send(event, data)
    await goes_on(stage, caplog, *BROKEN)


async def test_a_direct_message_that_cannot_be_read_is_left_out(stage, caplog):
    stage.sandbox.gateway.altered["MESSAGE_CREATE"] = {"poll": ENDLESS_POLL}
    await stage.sandbox.user("bob").send("dm", SECRET)
    stage.sandbox.gateway.altered.clear()
    await goes_on(stage, caplog, "MESSAGE_CREATE")


async def test_a_server_that_cannot_be_read_is_left_out(stage, caplog):
    server = guild_create(stage.sandbox.world) | {"roles": None, "name": SECRET}
    stage.sandbox.gateway.send("GUILD_CREATE", server)
    await goes_on(stage, caplog, "GUILD_CREATE")


async def test_a_server_that_can_never_be_read_is_served_all_the_same(sandbox, tmp_path):
    """Its event comes anew at each start; what waits for it goes on."""
    sandbox.gateway.altered["GUILD_CREATE"] = {"roles": None}
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        message, job_id = await stage.asked()
    async with staged(sandbox, tmp_path) as stage:
        assert (await stage.delivered(job_id)).state == "delivered"
        assert stage.visible() == [message]
        assert message.files
        told = await (await sandbox.user("bob").slash("general", "queue")).answer()
        assert text_of(told)


@pytest.mark.parametrize("cause", ["ready", "garbled"])
async def test_a_line_that_cannot_be_read_is_opened_anew(
    sandbox, tmp_path, monkeypatch, caplog, cause
):
    monkeypatch.setattr(gateway, "_FIRST_RETRY_S", 0.001)
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        line = sandbox.gateway
        _, job_id = await stage.asked()
        before = line.identifies
        if cause == "ready":
            stage.app.client.before_identify_hook = at_once
            line.altered["READY"] = {"user": None}
            line.invalidate()
            await sandbox.wait(lambda: line.identifies > before + 2, PATIENCE_S)
            before = line.identifies
            line.altered.clear()
        else:
            line.garble()
        await sandbox.wait(lambda: line.identifies > before and line.connected, PATIENCE_S)
        engine.release.set()
        assert (await stage.delivered(job_id)).state == "delivered"
        await soon(stage.app.client.wait_until_ready())
        assert (await stage.outcome(await stage.imagine("bob", "goes on"))).files
        assert "cannot be read" in caplog.text


async def at_once(*_, **__):
    """Stand in for discord.py's pause of five seconds before each further session."""


def test_discord_py_still_looks_its_parsers_up_where_they_are_replaced():
    """Red when a new version reads events in another way: see `bot/client/gateway.py`."""
    source = inspect.getsource(discord.gateway.DiscordWebSocket)
    assert "ws._discord_parsers = client._connection.parsers" in source
    assert "func = self._discord_parsers[event]" in source
